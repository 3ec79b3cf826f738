"""Which job functions there are: a plain object that is passed in. None is global."""

from collections.abc import Callable
from datetime import timedelta
from inspect import Parameter, isasyncgenfunction, iscoroutinefunction, isgeneratorfunction, signature
from typing import TypeAlias, TypeVar, cast, get_type_hints

from attrs import evolve, field, frozen

from heimdex.domain.backoff import Backoff
from heimdex.domain.errors import InvalidInput, UnknownJobType
from heimdex.domain.json_text import canonical, decode, fingerprint, is_flat, is_same
from heimdex.domain.new_job import JobLimits, JobSpec, NewJob
from heimdex.domain.rules import check_text
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.payloads import PayloadForm, payload_form

Payload = TypeVar("Payload")
Result = TypeVar("Result")

JobFunction: TypeAlias = Callable[[object, JobContext], object]

_DEFAULTS = JobLimits()
_PARAMETERS = 2
_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


@frozen
class RegisteredJob:
    """A job function, the form of its payload and the limits of its jobs."""

    type: str
    function: JobFunction
    form: PayloadForm
    limits: JobLimits
    is_async: bool = field(init=False)

    @property
    def payload_class(self) -> object:
        """The class of its payload, with what it is generic over; None where any object is taken."""
        return self.form.hint

    @is_async.default
    def _is_coroutine_function(self) -> bool:
        return iscoroutinefunction(self.function)


class JobRegistry:
    """The job functions of an application, one for each type."""

    def __init__(self) -> None:
        self._jobs: dict[str, RegisteredJob] = {}

    @property
    def types(self) -> frozenset[str]:
        return frozenset(self._jobs)

    def register(
        self,
        type: str,
        *,
        max_attempts: int = _DEFAULTS.max_attempts,
        backoff: Backoff = _DEFAULTS.backoff,
        timeout: timedelta = _DEFAULTS.timeout,
    ) -> Callable[[Callable[[Payload, JobContext], Result]], Callable[[Payload, JobContext], Result]]:
        """Register a function, plain or async, for a type. It stays as it is, so that tests can call it.

        An async one runs on an event loop that it shares with others, so it must not block: what does not await stops
        them all, and a timeout or a cancel reaches it only where it awaits.

        The annotation of its first parameter says what the payload is: a dict, an attrs class, a dataclass or a
        pydantic model. Without one it is a dict.

        Raises:
            InvalidInput: the type is taken, or the function cannot be a job function.
        """
        limits = JobLimits(max_attempts=max_attempts, backoff=backoff, timeout=timeout)

        def keep(function: Callable[[Payload, JobContext], Result]) -> Callable[[Payload, JobContext], Result]:
            job_function = cast("JobFunction", function)
            form = _form_of(type, job_function)
            self._add(RegisteredJob(check_text("type", type), job_function, form, limits))
            return function

        return keep

    def include(self, other: "JobRegistry") -> None:
        """Take in all jobs of another registry.

        Raises:
            InvalidInput: a type is in both.
        """
        for type in sorted(other.types):
            self._add(other.get(type))

    def get(self, type: str) -> RegisteredJob:
        """Return what is registered for a type.

        Raises:
            UnknownJobType: nothing is.
        """
        if type not in self._jobs:
            raise UnknownJobType(type, tuple(sorted(self._jobs)))
        return self._jobs[type]

    def specify(self, new: NewJob) -> JobSpec:
        """Check a new job against what is registered for its type, and return what a store writes.

        Raises:
            UnknownJobType, InvalidPayload.
        """
        job = self.get(new.type)
        given = job.form.document(new.payload)
        given_json = canonical(given, "payload")
        return JobSpec(
            new=new,
            payload_json=_as_stored(job.form, given, given_json),
            fingerprint=fingerprint(new.type, given_json),
            limits=new.limits or job.limits,
        )

    def checked(self, new: NewJob) -> NewJob:
        """Check a new job now, and return it with its payload as a document, which nobody else can change.

        Raises:
            UnknownJobType, InvalidPayload.
        """
        document = decode(canonical(self.get(new.type).form.document(new.payload), "payload"))
        checked = evolve(new, payload=document)
        self.specify(checked)
        return checked

    def _add(self, job: RegisteredJob) -> None:
        if job.type in self._jobs:
            raise InvalidInput("type", job.type, "register one function for each type; this one has a function")
        self._jobs[job.type] = job


def _as_stored(form: PayloadForm, given: object, given_json: str) -> str:
    """Return the text of what the form makes of a payload's text, which is what the job function will get."""
    if form.only_reads and is_flat(given):
        # What its text holds is no other than itself.
        stored = form.document(form.rebuild(given))
        return given_json if is_same(given, stored) else canonical(stored, "payload")
    return canonical(form.document(form.rebuild(decode(given_json))), "payload")


def _form_of(type: str, function: JobFunction) -> PayloadForm:
    def refused(remedy: str) -> InvalidInput:
        return InvalidInput(type, getattr(function, "__name__", function), remedy)

    if isgeneratorfunction(function) or isasyncgenfunction(function):
        raise refused("give a function that returns; nothing of one that yields would run")
    parameters = list(signature(function).parameters.values())
    if len(parameters) != _PARAMETERS or any(parameter.kind not in _BY_POSITION for parameter in parameters):
        raise refused("give it two parameters: the payload and the context")
    try:
        hints = cast("dict[str, object]", get_type_hints(function))
    except (NameError, TypeError) as error:
        raise refused(f"give a function whose annotations can be read at run time ({error})") from error
    return payload_form(hints.get(parameters[0].name, dict))
