"""Model versions and aliases: SQL rows, and a checkpoint folder for each version.

The row is the truth: a folder without a row is what a killed registration left, and is replaced.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from models import checkpoint
from models.checkpoint import Meta
from service import db
from service.db import AliasRow, ModelRow, VersionRow
from service.errors import ConflictError, ModelNotFoundError, StoreError, VersionNotFoundError

PRETRAINED = Path(checkpoint.__file__).parent / "pretrained"
PRODUCTION = "production"
PREVIOUS = "previous"
MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
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
        """Make or upgrade the tables; give a store without any model the shipped checkpoints."""
        with _store_errors():
            self._data_dir.mkdir(parents=True, exist_ok=True)
            db.migrate(self._engine, self._data_dir)
            with db.startup_lock(self._engine, self._data_dir):
                if not self.production():
                    for folder in shipped(pretrained):
                        self.register(folder, folder.name)

    def folder(self, model: str, version: int) -> Path:
        return self._data_dir / "checkpoints" / model / str(version)

    def production(self) -> dict[str, int]:
        """The version that each model serves."""
        with _store_errors(), Session(self._engine) as session:
            rows = session.scalars(select(AliasRow).where(AliasRow.alias == PRODUCTION))
            return {row.model: row.version for row in rows}

    def versions(self, model: str) -> list[Version]:
        """Every version of a model, newest first. Raises `ModelNotFoundError`."""
        with _store_errors(), Session(self._engine) as session:
            return self._versions(session, model)

    def version(self, model: str, number: int) -> Version:
        """One version. Raises `ModelNotFoundError`, `VersionNotFoundError`."""
        for version in self.versions(model):
            if version.version == number:
                return version
        raise VersionNotFoundError(f"{model} has no version {number}")

    def register(
        self,
        folder: Path,
        model: str | None = None,
        *,
        parent: int | None = None,
        promote: bool = False,
    ) -> tuple[str, int]:
        """Copy a verified checkpoint into the store as the next version of a model.

        Without a name the model is called as its architecture is. Returns name and version.

        A model's first version becomes production at once, later ones if `promote`. Raises
        `CheckpointError`, and `ConflictError` where input or labels differ from the model's.
        """
        with _store_errors(), Session(db.writing(self._engine)) as session, session.begin():
            meta = checkpoint.read(folder)
            model = model or meta.architecture
            if not MODEL_NAME.fullmatch(model):
                raise ConflictError(f"{model!r} is no name for a model: {NAME_RULE}")
            now = datetime.now(UTC)
            row = session.get(ModelRow, model, with_for_update=True)
            if row is None:
                session.add(ModelRow(name=model, architecture=meta.architecture, created_at=now))
                session.flush()
            else:
                self._check_fits(self._versions(session, model)[0], meta)
            latest = session.scalar(
                select(func.max(VersionRow.version)).where(VersionRow.model == model)
            )
            number = (latest or 0) + 1
            session.add(
                VersionRow(
                    model=model,
                    version=number,
                    sha256=meta.weights_sha256,
                    parent=parent,
                    created_at=now,
                    meta=meta.model_dump(mode="json"),
                )
            )
            session.flush()
            if promote or latest is None:
                self._promote(session, model, number, now)
            target = self.folder(model, number)
            shutil.rmtree(target, ignore_errors=True)
            checkpoint.remove_unfinished(target)
            checkpoint.copy(folder, target)
        return model, number

    def promote(self, model: str, version: int) -> None:
        """Point `production` to a version, and `previous` to where production came from."""
        with _store_errors(), Session(db.writing(self._engine)) as session, session.begin():
            if session.get(VersionRow, (model, version)) is None:
                raise VersionNotFoundError(f"{model} has no version {version}")
            self._promote(session, model, version, datetime.now(UTC))

    def verified_folder(self, model: str, version: int) -> tuple[Path, Meta]:
        """A version's folder and meta, after a check that the files are those registered.

        Raises `CheckpointError`, `ModelNotFoundError`, `VersionNotFoundError`.
        """
        registered = self.version(model, version)
        folder = self.folder(model, version)
        meta = checkpoint.read(folder)
        if meta != registered.meta:
            raise checkpoint.CheckpointError(
                f"{folder}: this is not the checkpoint registered as {model} version {version}"
            )
        return folder, meta

    @staticmethod
    def _promote(session: Session, model: str, version: int, now: datetime) -> None:
        current = session.get(AliasRow, (model, PRODUCTION))
        if current and current.version == version:
            return
        if current:
            session.merge(
                AliasRow(model=model, alias=PREVIOUS, version=current.version, updated_at=now)
            )
        session.merge(AliasRow(model=model, alias=PRODUCTION, version=version, updated_at=now))

    @staticmethod
    def _check_fits(newest: Version, meta: Meta) -> None:
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

    @staticmethod
    def _versions(session: Session, model: str) -> list[Version]:
        if session.get(ModelRow, model) is None:
            raise ModelNotFoundError(f"no model is called {model!r}")
        aliases = session.scalars(
            select(AliasRow).where(AliasRow.model == model).order_by(AliasRow.alias)
        ).all()
        rows = session.scalars(
            select(VersionRow).where(VersionRow.model == model).order_by(VersionRow.version.desc())
        )
        return [
            Version(
                model=row.model,
                version=row.version,
                parent=row.parent,
                created_at=row.created_at.replace(tzinfo=row.created_at.tzinfo or UTC),
                meta=Meta.model_validate(row.meta),
                aliases=tuple(alias.alias for alias in aliases if alias.version == row.version),
            )
            for row in rows
        ]


@contextmanager
def _store_errors() -> Iterator[None]:
    """Database trouble, told without the driver's statement and parameters."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise StoreError(f"the database cannot be used: {cause}") from error
    except OSError as error:
        raise StoreError(f"the data folder cannot be used: {error}") from error
