"""What the tasks of a run on Kubeflow Pipelines are called and how they are doing."""

from optduel.components.workflows.run_tasks import (
    FINAL,
    Pod,
    RunTask,
    Workflow,
    read_workflow,
    run_tasks,
    specification_of,
)

__all__ = ["FINAL", "Pod", "RunTask", "Workflow", "read_workflow", "run_tasks", "specification_of"]
