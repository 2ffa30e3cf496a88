"""Checkpoints that any number of processes can go on from, sharded or not.

fairseq2 writes them: a temporary folder that takes its name when every rank's files are complete.
What is in the files is ours: the weights by name, the optimizer's state by the names of its
weights, each rank its own rows, as plain tensors. On the way back a rank reads the rows that it
needs from whichever files hold them, so 1, 2 or 8 processes, DDP or FSDP2, make no difference.
"""

# R rows of this rank

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fairseq2.checkpoint import StandardCheckpointManager
from fairseq2.device import CPU
from fairseq2.gang import Gangs
from fairseq2.optim.lr_schedulers import AbstractLRScheduler, LRScheduler
from fairseq2.typing import Stateful
from fairseq2.utils.rng import RngBag
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import Module, Parameter
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from cslm_data.errors import CorruptArtefactError
from cslm_data.keys import key64
from cslm_train.models.shard_files import ShardFiles, load_tensors, rows_of
from cslm_train.run_folder import model_files, optimizer_files, trainer_files

_WRAPPERS = ("_checkpoint_wrapped_module.", "_orig_mod.")
_TOTAL = "total_"


def named_weights(model: Module) -> dict[str, Parameter]:
    """Every weight by the name it has in a checkpoint, however the model is wrapped."""
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    return {_plain(name): parameter for name, parameter in inner.named_parameters()}


def _plain(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name


class NamedOptimizerState(Stateful):
    """The state of an optimizer by the names of its weights: this rank's rows, plain tensors."""

    def __init__(self, optimizer: Optimizer, model: Module) -> None:
        self._optimizer = optimizer
        self._names = {parameter: name for name, parameter in named_weights(model).items()}

    def state_dict(self) -> dict[str, object]:
        """`param_groups` as torch has them, with names, and `name/key` → tensor."""
        groups = [
            {**group, "params": [self._names[weight] for weight in group["params"]]}
            for group in self._optimizer.param_groups
        ]
        tensors: dict[str, object] = {}
        for weight, name in self._names.items():
            for key, value in self._optimizer.state.get(weight, {}).items():
                if not isinstance(value, Tensor):
                    raise TypeError(f"{key} of the optimizer is not a tensor")
                tensors[f"{name}/{key}"] = value.to_local() if isinstance(value, DTensor) else value
        return {"param_groups": groups, **tensors}

    def load_state_dict(self, state_dict: Mapping[str, object]) -> None:
        """Not used: `load_files` reads the rows that are needed."""
        raise NotImplementedError

    def load_files(self, shards: ShardFiles) -> None:
        """Take the state from the files of a checkpoint. Raises CorruptArtefactError."""
        groups = self._optimizer.param_groups
        saved = shards.first.get("param_groups")
        names = [[self._names[weight] for weight in group["params"]] for group in groups]
        if not isinstance(saved, list) or [group.get("params") for group in saved] != names:
            raise CorruptArtefactError(
                f"{shards.files[0]}: the state of an optimizer of other weights, or of an earlier "
                "version; train again with --overwrite"
            )
        keys: dict[str, list[str]] = {}
        for entry in shards.first:
            name, slash, key = entry.rpartition("/")
            if slash:
                keys.setdefault(name, []).append(key)
        weights = [weight for group in groups for weight in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for index, weight in enumerate(weights):
            name = self._names[weight]
            if name in keys:
                state[index] = {
                    key: _state_of(weight, shards, f"{name}/{key}") for key in keys[name]
                }
        numbers = iter(range(len(weights)))
        param_groups = [
            {**group, "params": [next(numbers) for _ in group["params"]]} for group in saved
        ]
        self._optimizer.load_state_dict({"state": state, "param_groups": param_groups})


def _state_of(weight: Parameter, shards: ShardFiles, name: str) -> Tensor:
    """A tensor of a weight's state, sharded as the weight is; a single number is every rank's."""
    first = shards.first[name]
    if first.ndim == 0:
        return first.clone()  # type: ignore[no-any-return]
    if not isinstance(weight, DTensor):
        return shards.whole(name).clone()
    local_R = local_rows(weight, shards, name).to(weight.device, copy=True)
    return DTensor.from_local(
        local_R,
        weight.device_mesh,
        weight.placements,
        run_check=False,
        shape=weight.shape,
        stride=weight.stride(),
    )


def local_rows(weight: Tensor, shards: ShardFiles, name: str) -> Tensor:
    """What this rank holds of a weight, or of a tensor shaped like it: (R, …), or all of it."""
    if not isinstance(weight, DTensor):
        return shards.whole(name)
    mesh = weight.device_mesh  # its last dimension shards, one before it replicates
    begin, end = rows_of(len(weight), mesh.get_local_rank(mesh.ndim - 1), mesh.size(mesh.ndim - 1))
    return shards.rows(name, len(weight), begin, end)


class ElasticCheckpoints:
    """fairseq2's checkpoint manager, for a world of another size than the one that saved.

    `schedule_step` is where the learning rate goes on when that is not where it was saved: None
    but at the first start with another number of packs a step.
    """

    def __init__(
        self,
        manager: StandardCheckpointManager,
        run_dir: Path,
        gangs: Gangs,
        model: Module,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        *,
        seed: int,
        schedule_step: int | None = None,
    ) -> None:
        self._manager = manager
        self._run_dir = run_dir
        self._gangs = gangs
        self._model = model
        self._optimizer = NamedOptimizerState(optimizer, model)
        self._groups = optimizer.param_groups
        self._scheduler = scheduler
        self._seed = seed
        self._schedule_step = schedule_step

    def save_checkpoint(
        self,
        step_nr: int,
        trainer: Stateful,
        model: Stateful,
        optimizer: Stateful,
        data_reader: Stateful,
        **options: Any,
    ) -> None:
        """See CheckpointManager."""
        self._manager.save_checkpoint(
            step_nr, trainer, model, self._optimizer, data_reader, **options
        )

    def load_trainer_state(self, step_nr: int, trainer: Stateful) -> None:
        """Step, schedule and what guards the steps are equal on all ranks.

        Random numbers are a rank's own; one that was not there begins them from seed, rank and
        step. Sums over the run are too; in another world the first rank gets those of all.
        """
        files = trainer_files(self._run_dir, step_nr)
        gang = self._gangs.root
        mine = files[gang.rank] if gang.rank < len(files) else files[0]
        state = load_tensors(mine)
        if len(files) != gang.size:
            fresh = trainer.state_dict()["_metric_bag"]
            sums = _summed(fresh, files if gang.rank == 0 else ())
            state["_metric_bag"] = {**state["_metric_bag"], **sums}
        generators = RngBag.from_device_defaults(CPU, self._gangs.device)
        num_saved = len(state["_rng_bag"]["generators"])
        if gang.rank >= len(files) or num_saved != len(_generators(generators)):
            generators.manual_seed(
                key64("rng", str(self._seed), str(gang.rank), str(step_nr)) >> 32
            )
            state["_rng_bag"] = generators.state_dict()
        if (step := self._schedule_step) is not None:
            here = {"last_epoch": step, "_step_count": step + 1}
            state["_lr_scheduler"] = {**self._scheduler.state_dict(), **here}
        trainer.load_state_dict(state)
        if step is not None:
            assert isinstance(self._scheduler, AbstractLRScheduler)
            self._scheduler._last_lr = list(map(float, self._scheduler._compute_lrs()))

    def load_model_state(self, step_nr: int, model: Stateful) -> None:
        """The rows of the weights that this rank holds."""
        load_weights(self._model, model, ShardFiles(model_files(self._run_dir, step_nr)))

    def load_optimizer_state(self, step_nr: int, optimizer: Stateful) -> None:
        """The rows of the state that this rank holds, and the learning rates of now."""
        self._optimizer.load_files(ShardFiles(optimizer_files(self._run_dir, step_nr)))
        for group, rate in zip(self._groups, self._scheduler.get_last_lr(), strict=True):
            group["lr"] = rate

    def load_data_reader_state(self, step_nr: int, data_reader: Stateful) -> None:
        """The reader's position, equal on every rank."""
        folder = trainer_files(self._run_dir, step_nr)[0].parent.with_name("data_reader")
        data_reader.load_state_dict(load_tensors(folder / "dp_00.pt"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)


def load_weights(model: Module, facade: Stateful, shards: ShardFiles) -> None:
    """Load this rank's rows into a model. Raises CorruptArtefactError for those of another."""
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    try:
        facade.load_state_dict(
            {name: local_rows(tensor, shards, name) for name, tensor in inner.state_dict().items()}
        )
    except (RuntimeError, ValueError) as error:
        raise CorruptArtefactError(
            f"{shards.files[0]}: not the weights of this model ({' '.join(str(error).split())})"
        ) from None


def _generators(bag: RngBag) -> list[object]:
    return bag.state_dict()["generators"]  # type: ignore[return-value]


def _summed(fresh: Any, files: Iterable[Path]) -> dict[str, Any]:
    """Those metrics that are sums over the whole run, of all ranks together."""
    summed = {name: dict(sums) for name, sums in fresh.items() if name.startswith(_TOTAL)}
    for file in files:
        saved = load_tensors(file)["_metric_bag"]
        for name, sums in summed.items():
            for key, value in sums.items():
                sums[key] = value + saved[name][key].to(value.device)
    return summed
