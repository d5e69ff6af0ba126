"""What the models of a run were read from when it began, and whether that is still there, by content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from spiral.api.errors import RunError
from spiral.config.schema import Config
from spiral.models.fingerprint import fingerprint
from spiral.policies.reference import PolicyRef
from spiral.runs.directory import RunDir


def check_same_models(run: RunDir, config: Config, learner: Mapping[str, str], keep: bool) -> None:
    """Compare what the learner (`learner`: its model and what it learns from, path -> fingerprint) and the members of
    the pool are read from with what the run has on record; `keep`: make the record where there is none. Raises RunError
    for other content."""
    now = {**learner, **_members(config)}
    before = run.read_from()
    changed = [name for name in before if now.get(name) != before[name]]
    if changed:
        raise RunError(
            f"{', '.join(changed)} is not what run {run.path} began with: files were changed since; put them back, or "
            "start a new run"
        )
    if keep and now and not before:
        run.keep_read_from(now)


def _members(config: Config) -> dict[str, str]:
    return content_of(PolicyRef.parse(member.policy) for member in config.pool.members)


def content_of(refs: Iterable[PolicyRef]) -> dict[str, str]:
    """What the policies with weights are read from: their text -> fingerprint."""
    found = {}
    for ref in refs:
        if ref.kind == "model":
            found[str(ref)] = fingerprint(ref.saved_model())
        elif ref.kind == "run":
            found[str(ref)] = fingerprint(ref.checkpoint() / "model")
    return found
