"""How long the launcher waits for what its deployment sets no deadline for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Seconds, chosen for clusters; tests choose shorter ones.

    Attributes:
        answer: the API server has to answer a request.
        away: the API server may be unreachable, one outage long.
        refusal: what was allowed may be refused; a server that has just started refuses everybody.
        watch: one watch lasts, before it is opened again.
        poll: between two looks at signals and deadlines.
        first_pause: before a failed request is made again; each pause is twice the last, with full jitter.
        longest_pause: the same, at most.
        log_pause: before a log is opened again.
        unstartable: a container that cannot start for want of its image or its settings may yet start.
        unexplained: between two looks at the events of pods that do not start and do not say why.
        podless: an admitted job may be without a single pod, where its controller has complained.
        deletion: the pods of a deleted job may be there still.
        workflow: between two looks whether the run was cancelled.
        cancellation: the two requests of a cancellation, together; after about a second the step is killed.
        last_lines: logs may go on after their pods have ended.
    """

    answer: float = 30.0
    away: float = 300.0
    refusal: float = 30.0
    watch: float = 60.0
    poll: float = 0.1
    first_pause: float = 1.0
    longest_pause: float = 10.0
    log_pause: float = 1.0
    unstartable: float = 120.0
    unexplained: float = 60.0
    podless: float = 120.0
    deletion: float = 120.0
    workflow: float = 4.0
    cancellation: float = 0.8
    last_lines: float = 10.0
