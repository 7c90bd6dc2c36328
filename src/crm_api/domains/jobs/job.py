"""Jobs as the API shows them: what was asked for, how far it is, what came of it."""

from typing import Annotated, Any, Literal

from pydantic import Field

from crm_api.domains.jobs.cancel import CANCEL, RETRY
from crm_api.kernel.jobs import Job
from crm_api.kernel.resource import READS, Resource
from crm_api.kernel.schema import Code, Instant, Output

_Number = Annotated[int, Field(ge=0, le=9_007_199_254_740_991)]


class JobView(Output):
    """Work that outlives the request which started it."""

    object: Literal["job"]
    kind: Annotated[Code, Field(description="What is done; further kinds may come.")]
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    done: Annotated[_Number, Field(description="How much is done; it never falls.")]
    expected: Annotated[_Number | None, Field(description="How much there is to do, as far as that is known.")]
    parameters: Annotated[dict[str, Any] | None, Field(description="What was asked for.")]
    result: Annotated[dict[str, Any] | None, Field(description="What came of it; null until it has succeeded.")]
    problem: Annotated[
        dict[str, Any] | None,
        Field(
            description="Why it failed, or its last try did: `type`, `title`, `status`, `detail`, `code`, `retryable` "
            "and `errors` as in the reply of a request. A pointer leads into `parameters`."
        ),
    ]
    attempts: Annotated[_Number, Field(description="Tries since a step of it was last done.")]
    run_at: Annotated[Instant, Field(description="Not before this time.")]
    started_at: Instant | None
    finished_at: Instant | None


JOBS = Resource(
    singular="job",
    plural="jobs",
    model=Job,
    output=JobView,
    title="kind",
    owner=Job.created_by,
    filters=(Job.kind, Job.state, Job.created_by, Job.created_at),
    sorts=(Job.created_at,),
    operations=READS,
    actions=(CANCEL, RETRY),
    notices=("created", "succeeded", "failed"),
)
