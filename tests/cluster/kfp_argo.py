"""What Kubeflow Pipelines 2.17 makes of a pipeline for Argo: templates, arguments, what each node repeats.

Written from recorded Workflows (tests/cluster/recordings), of which the sizes are compared in
test_workflow_sizes.py. Fixed templates come from there as they are.
"""

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.cluster.recorded import workflow

Object = dict[str, Any]

LARGE = 1024 * 1024
"""Bytes of a Workflow above which Argo packs its nodes, and packed refuses it."""

SESSION = {
    "Provider": "minio",
    "Params": {
        "accessKeyKey": "accesskey",
        "disableSSL": "true",
        "endpoint": "seaweedfs.kubeflow:9000",
        "fromEnv": "false",
        "maxRetries": "5",
        "region": "minio",
        "secretKeyKey": "secretkey",
        "secretName": "mlpipeline-minio-artifact",
    },
}
SERVERS = [
    *("--ml_pipeline_server_address", "ml-pipeline.kubeflow.svc.cluster.local"),
    *("--ml_pipeline_server_port", "8887"),
    *("--mlmd_server_address", "metadata-grpc-service.kubeflow.svc.cluster.local"),
    *("--mlmd_server_port", "8080"),
    *("--publish_logs", "true", "--publish_logs", "true", "--"),
]


def dense(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def packed(nodes: Object) -> str:
    return base64.b64encode(gzip.compress(dense(nodes).encode(), 9)).decode()


class Compiled:
    """A pipeline as the API server compiles it.

    Args:
        pipeline: its specification.
        platform: the settings of Kubernetes of its executors.
    """

    def __init__(self, pipeline: Object, platform: Object) -> None:
        self.pipeline = pipeline
        self.components: Object = pipeline["components"]
        self._settings = platform.get("platforms", {}).get("kubernetes", {})
        self._fixed = {one["name"]: one for one in workflow("run-failed")["spec"]["templates"]}

    def container(self, component: Object) -> Object:
        executors = self.pipeline["deploymentSpec"]["executors"]
        container: Object = executors[component["executorLabel"]]["container"]
        return container

    def _digest(self, component: Object) -> str:
        """The server keeps tasks of one container once, whatever their executors are called."""
        return hashlib.sha256(dense(self.container(component)).encode()).hexdigest()

    def settings(self, component: Object) -> Object:
        executors = self._settings.get("deploymentSpec", {}).get("executors", {})
        settings: Object = executors.get(component["executorLabel"], {})
        return settings

    def ttl(self) -> Object:
        """Of the Workflow: for what the pipeline leaves open the server takes an hour."""
        config = self._settings.get("pipelineConfig", {})
        given = {
            "secondsAfterCompletion": config.get("resourceTtlOnCompletion"),
            "secondsAfterSuccess": config.get("resourceTtlOnSuccess", 3600),
            "secondsAfterFailure": config.get("resourceTtlOnFailure", 3600),
        }
        return {name: value for name, value in given.items() if value is not None}

    def spec(self) -> Object:
        """The Workflow's specification."""
        parameters: dict[str, str] = {"components-root": dense(self.pipeline["root"])}
        for name, component in self.components.items():
            if "dag" in component:
                parameters[f"components-{name}"] = dense(component)
                continue
            digest = self._digest(component)
            parameters.setdefault(f"components-{digest}", dense(component))
            parameters[f"implementations-{digest}"] = dense(self.container(component))
            parameters[f"kubernetes-{name}"] = dense(self.settings(component))
        fixed = (
            "system-container-driver",
            "retry-system-container-executor",
            "retry-system-container-impl",
            "system-dag-driver",
            "entrypoint",
        )
        return {
            **{
                name: part
                for name, part in workflow("run-failed")["spec"].items()
                if name not in ("templates", "arguments")
            },
            "arguments": {
                "parameters": [{"name": name, "value": value} for name, value in parameters.items()]
            },
            "templates": [self._fixed[name] for name in fixed] + list(self._templates()),
            "ttlStrategy": self.ttl(),
        }

    def _templates(self) -> Iterator[Object]:
        """Tasks that run at others' exit are hooks, as `dag.go` of the server's compiler has them."""
        dags = {name: one for name, one in self.components.items() if "dag" in one}
        for name, component in {"root": self.pipeline["root"], **dags}.items():
            tasks = component["dag"]["tasks"]
            at_exit = {key: one for key, one in tasks.items() if runs_at_exit(one)}
            hooks = {one["dependentTasks"][0]: f"exit-hook-{name}-{key}" for key, one in at_exit.items()}
            for key, one in at_exit.items():
                yield self._dag(f"exit-hook-{name}-{key}", {key: one | {"dependentTasks": []}}, {})
            yield self._dag(name, {key: one for key, one in tasks.items() if key not in at_exit}, hooks)

    def _dag(self, name: str, planned: Object, hooks: Mapping[str, str]) -> Object:
        tasks: list[Object] = []
        for key, task in planned.items():
            reference = task["componentRef"]["name"]
            inner = self.components[reference]
            depends = " && ".join(f"{one}.Succeeded" for one in task.get("dependentTasks", ()))
            before = {"depends": depends} if depends else {}
            if "dag" in inner:
                arguments = {
                    "component": f"{{{{workflow.parameters.components-{reference}}}}}",
                    "parent-dag-id": "{{inputs.parameters.parent-dag-id}}",
                    "task": dense(task),
                    "task-name": key,
                }
                execution = {
                    "parent-dag-id": f"{{{{tasks.{key}-driver.outputs.parameters.execution-id}}}}",
                    "condition": f"{{{{tasks.{key}-driver.outputs.parameters.condition}}}}",
                }
                templates = ("system-dag-driver", reference)
            else:
                digest = self._digest(inner)
                arguments = {
                    "component": f"{{{{workflow.parameters.components-{digest}}}}}",
                    "task": dense(task),
                    "container": f"{{{{workflow.parameters.implementations-{digest}}}}}",
                    "task-name": key,
                    "parent-dag-id": "{{inputs.parameters.parent-dag-id}}",
                    "kubernetes-config": f"{{{{workflow.parameters.kubernetes-{reference}}}}}",
                }
                outputs = f"{{{{tasks.{key}-driver.outputs.parameters."
                execution = {
                    "pod-spec-patch": f"{outputs}pod-spec-patch}}}}",
                    "cached-decision": f"{outputs}cached-decision}}}}",
                    **retries(task),
                }
                templates = ("system-container-driver", "retry-system-container-executor")
            tasks += [
                {
                    "name": f"{key}-driver",
                    "template": templates[0],
                    "arguments": _listed(arguments),
                    **before,
                },
                {
                    "name": key,
                    "template": templates[1],
                    "arguments": _listed(execution),
                    "depends": f"{key}-driver.Succeeded",
                    **_hook(hooks.get(key)),
                },
            ]
        return {
            "name": name,
            "inputs": _listed({"parent-dag-id": ""}),
            "outputs": {},
            "metadata": self._fixed["root"]["metadata"],
            "dag": {"tasks": tasks},
        }

    def patch(self, run_id: str, component: Object, executor_input: Object, execution: int) -> str:
        """The driver's answer for a task: its pod, as changes of the template."""
        container, settings = self.container(component), self.settings(component)
        outputs = component.get("outputDefinitions", {"artifacts": {}})
        logs = {"executor-logs": {"artifactType": {"schemaTitle": "system.Artifact"}}}
        told = {**component, "outputDefinitions": {"artifacts": {**outputs.get("artifacts", {}), **logs}}}
        launch = ["/kfp-launcher/launch", "--pipeline_name", self.pipeline["pipelineInfo"]["name"]]
        launch += ["--run_id", run_id, "--execution_id", str(execution), "--executor_input"]
        launch += [dense(executor_input), "--component_spec", dense(told)]
        launch += ["--pod_name", "$(KFP_POD_NAME)", "--pod_uid", "$(KFP_POD_UID)", *SERVERS]
        secrets = [
            {
                "name": one["envVar"],
                "valueFrom": {
                    "secretKeyRef": {
                        "name": secret["secretName"],
                        "key": one["secretKey"],
                        "optional": secret.get("optional", False),
                    }
                },
            }
            for secret in settings.get("secretAsEnv", ())
            for one in secret["keyToEnv"]
        ]
        main = {
            "name": "main",
            "image": container["image"],
            "command": launch,
            "args": [*container["command"], *container["args"]],
            "env": [*container.get("env", ()), *secrets],
            "resources": container.get("resources", {}),
            "securityContext": {"capabilities": {"drop": ["ALL"]}, **settings.get("securityContext", {})},
        }
        return dense({"containers": [main]})


def _hook(template: str | None) -> Object:
    given = _listed({"parent-dag-id": "{{inputs.parameters.parent-dag-id}}"})
    return {"hooks": {"exit": {"template": template, "arguments": given}}} if template else {}


def runs_at_exit(task: Object) -> bool:
    return bool(task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED")


def retries(task: Object) -> dict[str, str]:
    policy = task.get("retryPolicy", {})
    return {
        "retry-max-count": str(policy.get("maxRetryCount", 0)),
        "retry-backoff-duration": policy.get("backoffDuration", "0s").removesuffix("s"),
        "retry-backoff-factor": str(int(policy.get("backoffFactor", 2))),
        "retry-backoff-max-duration": policy.get("backoffMaxDuration", "3600s").removesuffix("s"),
    }


def _listed(values: Object) -> Object:
    return {"parameters": [{"name": name, "value": value} for name, value in values.items()]}
