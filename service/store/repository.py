"""Models in the store: database rows, and a checkpoint folder for each version.

The row decides: a folder without one was left by a killed registration, and is replaced.
"""

import hashlib
import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from sqlalchemy import Connection, Engine, select

from perceptd.models import checkpoint
from perceptd.models.checkpoint import Meta
from perceptd.service.errors import ConflictError, PlotNotFoundError, StoreError
from perceptd.service.store import aliases, db, tables, versions
from perceptd.service.store.aliases import PRODUCTION, RESERVED, Serving
from perceptd.service.store.versions import NAME, NAME_RULE, Version, check_name

PRETRAINED = Path(checkpoint.__file__).parent / "pretrained"


def shipped(pretrained: Path = PRETRAINED) -> list[Path]:
    """The checkpoint folders in the package, one per built-in model."""
    return sorted(meta.parent for meta in pretrained.glob(f"[!.]*/{checkpoint.META}"))


class Repository:
    def __init__(self, engine: Engine, data_dir: Path) -> None:
        self._engine = engine
        self._data_dir = data_dir

    def prepare(self, pretrained: Path = PRETRAINED) -> None:
        """Create or upgrade the tables, and register the shipped models that are missing."""
        with db.store_errors():
            db.make_folder(self._data_dir)
            db.migrate(self._engine, self._data_dir)
            with db.startup_lock(self._engine, self._data_dir):
                registered = self.production()
                for folder in shipped(pretrained):
                    if folder.name not in registered:
                        self.register(folder, folder.name)

    def folder(self, model: str, version: int) -> Path:
        return self._data_dir / "checkpoints" / model / str(version)

    def production(self, within: Connection | None = None) -> dict[str, int]:
        """The production version of each model that has one, unloaded or not."""
        reading = nullcontext(within) if within is not None else db.reading(self._engine)
        with reading as connection:
            return aliases.production(connection)

    def production_of(self, model: str) -> int:
        """The production version of one model.

        Raises `ModelNotFoundError`, and `ConflictError` if the model has none.
        """
        with db.reading(self._engine) as connection:
            versions.get_all(connection, model)
            version = aliases.production(connection).get(model)
        if version is None:
            raise ConflictError(f"{model} has no version in production: promote one")
        return version

    def serving(self) -> Serving:
        """The versions that servers load, and the models that are unloaded."""
        with db.reading(self._engine) as connection:
            return aliases.serving(connection)

    def numbers(self, model: str | None = None) -> list[tuple[str, int]]:
        """Model and number of every version, of one model or of all, in order."""
        named = select(tables.versions.c.model, tables.versions.c.version)
        if model is not None:
            named = named.where(tables.versions.c.model == model)
        with db.reading(self._engine) as connection:
            rows = connection.execute(named.order_by(*named.selected_columns))
            return [(row.model, row.version) for row in rows]

    def versions(self, model: str) -> list[Version]:
        """Every version of a model, newest first. Raises `ModelNotFoundError`."""
        with db.reading(self._engine) as connection:
            return versions.get_all(connection, model)

    def version(self, model: str, number: int) -> Version:
        """One version. Raises `ModelNotFoundError`, `VersionNotFoundError`."""
        with db.reading(self._engine) as connection:
            return versions.get(connection, model, number)

    def plot(self, model: str, version: int, name: str) -> bytes:
        """The file `plots/...` of a version, as it was registered.

        Raises `ModelNotFoundError`, `VersionNotFoundError`, `PlotNotFoundError`, and `StoreError`
        if the file is missing or was altered.
        """
        files = self.version(model, version).meta.files
        if name not in files:
            plots = ", ".join(file for file in files if file.startswith("plots/"))
            raise PlotNotFoundError(f"{model} version {version} has {plots or 'no plots'}")
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
        """Copy a verified checkpoint into the store as the next version; return model and number.

        The model is named after its architecture by default. A first version becomes production if
        `first_serves`, any version if `promote`. A `job` has one version: registering a second time
        returns the first. `within` is a transaction of `db.writing` to take part in.

        Raises `CheckpointError`, and `ConflictError` if input or labels differ from the model's.
        """
        meta = checkpoint.read(folder)
        model = model or meta.architecture
        check_name(model)
        with self._writing(within) as connection:
            known = versions.find(connection, model)
            for version in known:
                if job is not None and version.job == job:
                    return model, version.version
            number = versions.add(connection, model, known, meta, job)
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
        """Point an alias to a version.

        Moving `production` points `previous` to the old version and loads an unloaded model.
        Raises `ModelNotFoundError`, `VersionNotFoundError`, and `ConflictError` for a reserved or
        invalid alias.
        """
        if reason := RESERVED.get(alias):
            raise ConflictError(f"{alias} cannot be set: {reason}")
        if not NAME.fullmatch(alias):
            raise ConflictError(f"{alias!r} is no name for an alias: {NAME_RULE}")
        with self._writing(within) as connection:
            versions.get(connection, model, version)
            if alias == PRODUCTION:
                aliases.promote(connection, model, version)
            else:
                aliases.point(connection, model, alias, version)

    def unload(self, model: str) -> None:
        """Unload a model from all servers, until it is loaded or a version is promoted."""
        with db.writing(self._engine) as connection:
            aliases.unload(connection, model)

    def load(self, model: str) -> None:
        """Undo an `unload`, if there was one."""
        with db.writing(self._engine) as connection:
            aliases.load(connection, model)

    def verified_folder(self, model: str, version: int) -> tuple[Path, Meta]:
        """A version's folder and meta, verified to be those that were registered.

        Raises `CheckpointError`, `ModelNotFoundError`, `VersionNotFoundError`.
        """
        registered = self.version(model, version)
        folder = self.folder(model, version)
        try:
            meta = checkpoint.read(folder)
        except checkpoint.CheckpointError as error:  # clients must not see the path
            raise checkpoint.CheckpointError(str(error).replace(f"{folder}: ", "")) from error
        if meta != registered.meta:
            raise checkpoint.CheckpointError(
                f"this is not the checkpoint registered as {model} version {version}"
            )
        return folder, meta

    def tidy(self) -> None:
        """Remove the folders of killed registrations: without a row, or unfinished."""
        with db.writing(self._engine) as connection:
            rows = connection.execute(select(tables.versions.c.model, tables.versions.c.version))
            known = {(row.model, str(row.version)) for row in rows}
            for folder in (self._data_dir / "checkpoints").glob("*/*"):
                is_registered = (folder.parent.name, folder.name) in known
                if not is_registered and (folder.name.isdecimal() or ".unfinished-" in folder.name):
                    shutil.rmtree(folder, ignore_errors=True)

    def _writing(self, within: Connection | None) -> AbstractContextManager[Connection]:
        return nullcontext(within) if within is not None else db.writing(self._engine)
