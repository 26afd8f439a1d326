"""Model versions and aliases: SQL rows, and a checkpoint folder for each version.

The row is the truth: a folder without a row is what a killed registration left, and is replaced.
"""

import hashlib
import re
import shutil
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, Engine, insert, select

from perceptd.models import checkpoint
from perceptd.models.checkpoint import Meta
from perceptd.service.errors import (
    ConflictError,
    ModelNotFoundError,
    PlotNotFoundError,
    StoreError,
    VersionNotFoundError,
)
from perceptd.service.store import aliases, db, tables
from perceptd.service.store.aliases import PRODUCTION, RESERVED, Serving

PRETRAINED = Path(checkpoint.__file__).parent / "pretrained"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
MAX_NUMBER = 2**31 - 1  # an INTEGER of PostgreSQL
NAME_RULE = "lower-case letters, digits, '.', '_' and '-', at most 63"


def shipped(pretrained: Path = PRETRAINED) -> list[Path]:
    """The checkpoint folders in the package, one of each built-in model."""
    return sorted(meta.parent for meta in pretrained.glob(f"[!.]*/{checkpoint.META}"))


@dataclass(frozen=True)
class Version:
    """One version of a model and where it comes from."""

    model: str
    version: int
    parent: int | None
    job: int | None
    created_at: datetime
    meta: Meta
    aliases: tuple[str, ...]

    @property
    def sha256(self) -> str:
        return self.meta.weights_sha256


class Repository:
    def __init__(self, engine: Engine, data_dir: Path) -> None:
        self._engine = engine
        self._data_dir = data_dir

    def prepare(self, pretrained: Path = PRETRAINED) -> None:
        """Make or upgrade the tables; give the store those shipped models that it does not have."""
        with db.store_errors():
            db.make_folder(self._data_dir)
            db.migrate(self._engine, self._data_dir)
            with db.startup_lock(self._engine, self._data_dir):
                there = self.production()
                for folder in shipped(pretrained):
                    if folder.name not in there:
                        self.register(folder, folder.name)

    def folder(self, model: str, version: int) -> Path:
        return self._data_dir / "checkpoints" / model / str(version)

    def production(self, within: Connection | None = None) -> dict[str, int]:
        """What `production` points to, of each model that has it, unloaded or not."""
        reading = nullcontext(within) if within is not None else db.reading(self._engine)
        with reading as connection:
            return aliases.production(connection)

    def production_of(self, model: str) -> int:
        """What `production` of one model points to.

        Raises `ModelNotFoundError`, and `ConflictError` where it points to nothing.
        """
        with db.reading(self._engine) as connection:
            if not _versions(connection, model):
                raise _no_model(model)
            version = aliases.production(connection).get(model)
        if version is None:
            raise ConflictError(f"{model} has no version in production: promote one")
        return version

    def serving(self) -> Serving:
        """What servers load, and what they do not although it is production."""
        with db.reading(self._engine) as connection:
            return aliases.serving(connection)

    def numbers(self, model: str | None = None) -> list[tuple[str, int]]:
        """Name and number of every version, of one model or of all, in order."""
        named = select(tables.versions.c.model, tables.versions.c.version)
        if model is not None:
            named = named.where(tables.versions.c.model == model)
        with db.reading(self._engine) as connection:
            rows = connection.execute(named.order_by(*named.selected_columns))
            return [(row.model, row.version) for row in rows]

    def versions(self, model: str) -> list[Version]:
        """Every version of a model, newest first. Raises `ModelNotFoundError`."""
        with db.reading(self._engine) as connection:
            if found := _versions(connection, model):
                return found
        raise _no_model(model)

    def version(self, model: str, number: int) -> Version:
        """One version. Raises `ModelNotFoundError`, `VersionNotFoundError`."""
        with db.reading(self._engine) as connection:
            return _version(connection, model, number)

    def plot(self, model: str, version: int, name: str) -> bytes:
        """A picture of a version, `plots/...`, as it was registered.

        Raises `ModelNotFoundError`, `VersionNotFoundError`, `PlotNotFoundError`, and `StoreError`
        where the file is gone or was altered.
        """
        files = self.version(model, version).meta.files
        if name not in files:
            plots = ", ".join(file for file in files if file.startswith("plots/"))
            raise PlotNotFoundError(f"{model} version {version} has {plots or 'no pictures'}")
        with db.store_errors():
            content = (self.folder(model, version) / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != files[name]:
            raise StoreError(f"{name} of {model} version {version} was altered")
        return content

    def register(
        self,
        folder: Path,
        model: str | None = None,
        *,
        promote: bool = False,
        first_serves: bool = True,
        job: int | None = None,
        within: Connection | None = None,
    ) -> tuple[str, int]:
        """Copy a verified checkpoint into the store as the next version of a model.

        Without a name the model is called as its architecture is. Returns name and version.
        A model's first version becomes production at once if `first_serves`, any if `promote`. A
        job that comes a second time is answered with the version it has made. `within` is a
        transaction of `db.writing` to be part of. Raises `CheckpointError`, and `ConflictError`
        where input or labels differ from the model's.
        """
        meta = checkpoint.read(folder)
        model = model or meta.architecture
        check_name(model)
        now = datetime.now(UTC)
        with self._writing(within) as connection:
            known = _versions(connection, model)
            for version in known:
                if job is not None and version.job == job:
                    return model, version.version
            if known:
                _check_fits(known[0], meta)
            else:
                connection.execute(
                    insert(tables.models).values(
                        name=model, architecture=meta.architecture, created_at=now
                    )
                )
            number = known[0].version + 1 if known else 1
            parents = [v.version for v in known if v.sha256 == meta.parent_sha256]
            connection.execute(
                insert(tables.versions).values(
                    model=model,
                    version=number,
                    sha256=meta.weights_sha256,
                    parent=parents[0] if parents else None,
                    job=job,
                    created_at=now,
                    meta=meta.model_dump(mode="json"),
                )
            )
            served = any(PRODUCTION in version.aliases for version in known)
            if promote or (first_serves and not served):
                aliases.promote(connection, model, number)
            target = self.folder(model, number)
            shutil.rmtree(target, ignore_errors=True)
            checkpoint.remove_unfinished(target)
            if checkpoint.copy(folder, target) != meta:
                raise checkpoint.CheckpointError(f"{folder} changed while it was copied")
        return model, number

    def point(self, model: str, alias: str, version: int, within: Connection | None = None) -> None:
        """Point an alias to a version; `production` leaves `previous` where it came from, and
        serves even where the model was unloaded.

        Raises `ModelNotFoundError`, `VersionNotFoundError`, and `ConflictError` for an alias that
        cannot be set.
        """
        if reason := RESERVED.get(alias):
            raise ConflictError(f"{alias} cannot be set: {reason}")
        if not NAME.fullmatch(alias):
            raise ConflictError(f"{alias!r} is no name for an alias: {NAME_RULE}")
        with self._writing(within) as connection:
            _version(connection, model, version)
            if alias == PRODUCTION:
                aliases.promote(connection, model, version)
            else:
                aliases.point(connection, model, alias, version)

    def unload(self, model: str) -> None:
        """Have no server load a model until it is loaded again or a version is promoted."""
        with db.writing(self._engine) as connection:
            aliases.unload(connection, model)

    def load(self, model: str) -> None:
        """Take back an `unload`. Nothing changes where there was none."""
        with db.writing(self._engine) as connection:
            aliases.load(connection, model)

    def verified_folder(self, model: str, version: int) -> tuple[Path, Meta]:
        """A version's folder and meta, after a check that the files are those registered.

        Raises `CheckpointError`, `ModelNotFoundError`, `VersionNotFoundError`.
        """
        registered = self.version(model, version)
        folder = self.folder(model, version)
        try:
            meta = checkpoint.read(folder)
        except checkpoint.CheckpointError as error:  # told to callers, whom folders do not concern
            raise checkpoint.CheckpointError(str(error).replace(f"{folder}: ", "")) from error
        if meta != registered.meta:
            raise checkpoint.CheckpointError(
                f"this is not the checkpoint registered as {model} version {version}"
            )
        return folder, meta

    def tidy(self) -> None:
        """Remove what killed registrations left: folders without a row, and unfinished ones."""
        with db.writing(self._engine) as connection:
            rows = connection.execute(select(tables.versions.c.model, tables.versions.c.version))
            known = {(row.model, str(row.version)) for row in rows}
            for folder in (self._data_dir / "checkpoints").glob("*/*"):
                whole = (folder.parent.name, folder.name) in known
                if not whole and (folder.name.isdecimal() or ".unfinished-" in folder.name):
                    shutil.rmtree(folder, ignore_errors=True)

    def _writing(self, within: Connection | None) -> AbstractContextManager[Connection]:
        return nullcontext(within) if within is not None else db.writing(self._engine)


def check_name(model: str) -> None:
    """Raise `ConflictError` where that is no name for a model."""
    if not NAME.fullmatch(model):
        raise ConflictError(f"{model!r} is no name for a model: {NAME_RULE}")


def _no_model(model: str) -> ModelNotFoundError:
    return ModelNotFoundError(f"no model is called {model[:64]!r}")


def _version(connection: Connection, model: str, number: int) -> Version:
    found = _versions(connection, model, number)
    if not found and not _versions(connection, model):
        raise _no_model(model)
    if not found:
        raise VersionNotFoundError(f"{model} has no version {number}")
    return found[0]


def _versions(connection: Connection, model: str, number: int | None = None) -> list[Version]:
    """The versions of a model, newest first, or the one of that number."""
    if not NAME.fullmatch(model) or (number or 0) > MAX_NUMBER:
        return []  # PostgreSQL refuses to look for some
    named = (
        select(tables.aliases)
        .where(tables.aliases.c.model == model)
        .order_by(tables.aliases.c.alias)
    )
    pointing = connection.execute(named).all()
    newest_first = (
        select(tables.versions)
        .where(tables.versions.c.model == model)
        .order_by(tables.versions.c.version.desc())
    )
    if number is not None:
        newest_first = newest_first.where(tables.versions.c.version == number)
    return [
        Version(
            model=row.model,
            version=row.version,
            parent=row.parent,
            job=row.job,
            created_at=row.created_at,
            meta=Meta.model_validate(row.meta),
            aliases=tuple(alias.alias for alias in pointing if alias.version == row.version),
        )
        for row in connection.execute(newest_first)
    ]


def _check_fits(newest: Version, meta: Meta) -> None:
    """Versions of one model take and answer the same; only then can one replace another."""
    old, new = newest.meta.spec, meta.spec
    for what, before, after in (
        ("input", old.input, new.input),
        ("labels", old.labels, new.labels),
    ):
        if before != after:
            raise ConflictError(
                f"{newest.model} has {what} {before}, the checkpoint has {after}: "
                "register it under a name of its own"
            )
