"""A request for a job -> a queued job."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from pydantic import ValidationError

from perceptd.service.errors import ConflictError, InvalidInputError
from perceptd.service.jobs.planner import Planner
from perceptd.service.jobs.queue import Job, Jobs
from perceptd.service.jobs.schemas import ImportCreate, JobCreate
from perceptd.service.jobs.uploads import Uploads
from perceptd.service.schemas.validation import field_errors, invalid

SUFFIXES = (".pt", ".pth", ".safetensors")
IMPORT_EXAMPLE = (
    "curl -H 'Authorization: Bearer TOKEN' -F file=@weights.pt HOST/models/dnn/versions"
)
MAX_KEY = 255  # characters of an `Idempotency-Key`


@dataclass(frozen=True)
class Intake:
    jobs: Jobs
    planner: Planner
    uploads: Uploads

    def train(self, request: JobCreate, key: str | None) -> Job:
        """Queue a training, or return the job that was submitted with the same key.

        Raises `InvalidInputError`, `ModelNotFoundError`, `ConflictError`.
        """
        asked = request.model_dump(mode="json", exclude_unset=True)
        fingerprint = _fingerprint("train", asked)
        if earlier := self._earlier(key, fingerprint, {"model": request.model}):
            return earlier
        plan = self.planner.plan_training(request).model_dump(mode="json")
        return self.jobs.submit(
            "train", request.model, asked, plan, key=key, fingerprint=fingerprint
        )

    def reproduce(self, number: int, key: str | None) -> Job:
        """Queue a finished training again, to compare the weights.

        Raises `JobNotFoundError`, and `ConflictError` unless the job is a training with a version.
        """
        asked = {"reproduces": number}
        fingerprint = _fingerprint("reproduce", asked)
        if earlier := self._earlier(key, fingerprint, None):
            return earlier
        job = self.jobs.get(number)
        plan = self.planner.plan_reproduction(job).model_dump(mode="json")
        return self.jobs.submit("train", job.model, asked, plan, key=key, fingerprint=fingerprint)

    def submit_import(
        self, model: str, name: str, content: bytes, fields: dict[str, Any], key: str | None
    ) -> Job:
        """Queue the import of uploaded weights.

        Raises `InvalidInputError`, `ConflictError`, and `DiskError` if the file cannot be saved.
        """
        suffix = PurePath(name).suffix.lower()
        if suffix not in SUFFIXES:
            expected = f"a file that ends in {' or '.join(SUFFIXES)}"
            raise invalid(["file"], expected, json.dumps(name[-60:]), IMPORT_EXAMPLE)
        request = _import_fields(fields)
        asked = {
            "file": PurePath(name).name[-100:],
            "sha256": hashlib.sha256(content).hexdigest(),
            **request.model_dump(mode="json", exclude_unset=True),
        }
        fingerprint = _fingerprint(f"import {model}", asked)
        if earlier := self._earlier(key, fingerprint, IMPORT_EXAMPLE):
            return earlier
        plan = self.planner.plan_import(model, request, suffix).model_dump(mode="json")
        upload = plan["upload"] = self.uploads.save(content)
        try:
            job = self.jobs.submit("import", model, asked, plan, key=key, fingerprint=fingerprint)
        except ConflictError:  # after any other error the job may be queued and need its file
            self.uploads.remove(upload)
            raise
        if job.plan["upload"] != upload:  # a simultaneous request with the same key was first
            self.uploads.remove(upload)
        return job

    def _earlier(self, key: str | None, fingerprint: str, example: Any) -> Job | None:
        if key is not None and not (
            key.isascii() and key.isprintable() and 0 < len(key) <= MAX_KEY
        ):
            expected = f"1 to {MAX_KEY} printable ASCII characters"
            got = f"{len(key)} characters"
            raise invalid(["header", "Idempotency-Key"], expected, got, example)
        return self.jobs.find_by_key(key, fingerprint)


def _fingerprint(kind: str, asked: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps([kind, asked], sort_keys=True).encode()).hexdigest()


def _import_fields(fields: dict[str, Any]) -> ImportCreate:
    """The fields of a form, in which objects are JSON texts."""
    values: dict[str, Any] = {}
    for name, text in fields.items():
        values[name] = text
        if name in ("config", "gate") and text.lstrip().startswith("{"):
            try:
                values[name] = json.loads(text)
            except (ValueError, RecursionError):
                got = json.dumps(text[:60])
                raise invalid([name], "an object as JSON", got, IMPORT_EXAMPLE) from None
    try:
        return ImportCreate.model_validate(values)
    except ValidationError as error:
        raise InvalidInputError.of(field_errors(error.errors()), IMPORT_EXAMPLE) from None
