"""A Trainer that measures train and validation in the same way, and keeps the rows' order."""

import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput

from tunetrail.tasks.base import Array, Task
from tunetrail.training.checkpoints import is_complete
from tunetrail.training.evaluations import without_timings
from tunetrail.training.row_losses import RowLosses
from tunetrail.training.tokens import Split


class ResumableLengthSampler(LengthGroupedSampler):
    """Groups rows by length, in an order that depends on the seed and the epoch alone.

    The library's sampler draws from the generator that dropout uses, too. A resumed run restores
    that generator to its state at the checkpoint, so after a checkpoint in the middle of an epoch
    the rest of the epoch would come in another order.
    """

    def __init__(self, *args: Any, seed: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the next epoch, from 0. Trainer calls this."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator = torch.Generator().manual_seed(self._seed + self._epoch)
        order: Iterator[int] = super().__iter__()  # type: ignore[no-untyped-call]
        return order


class TellEpoch(transformers.TrainerCallback):
    """Tell rows that change with the epoch its number, from 0.

    accelerate's data loader tells either them or the sampler; which of the two changes when an
    epoch goes on after a checkpoint.
    """

    def on_epoch_begin(
        self,
        args: transformers.TrainingArguments,
        state: transformers.TrainerState,
        control: transformers.TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Trainer calls this. In a resumed epoch the state has its part that is done, too."""
        del args, control
        if tell := getattr(kwargs["train_dataloader"].dataset, "set_epoch", None):
            tell(int(state.epoch or 0))


class MeasuringTrainer(transformers.Trainer):
    """Evaluates rows in their order, and keeps the outputs of the best evaluation.

    With ``group_by_length`` Trainer also shuffles the rows that it evaluates, and predictions
    would no longer match their rows. The splits are sorted by length instead, which needs as
    little padding.

    Args:
        task: decides what of a batch is kept, and how it scores.
        splits: measured at every evaluation, by name.

    Attributes:
        seconds_completing: what the task's ``complete`` took so far; 0 where it adds nothing.

    """

    def __init__(self, *, task: Task, splits: Mapping[str, Split], **kwargs: Any) -> None:
        super().__init__(
            eval_dataset={name: split.encoded for name, split in splits.items()}, **kwargs
        )
        self._task = task
        self._measured = dict(splits)
        # Step of an evaluation -> split -> what the task kept of it.
        self._outputs: dict[int, dict[str, Array]] = {}
        self._losses = RowLosses()
        self.seconds_completing = 0.0
        # The run log has all numbers that it would print.
        self.remove_callback(transformers.PrinterCallback)
        self.add_callback(TellEpoch())

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Train an epoch, but no step of one if a checkpoint says that training has ended."""
        if not self.control.should_training_stop:
            super()._run_epoch(*args, **kwargs)  # type: ignore[no-untyped-call] # as the library has it

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Keep of a batch what the task says, and where labels would be the losses of its inputs.

        Trainer itself would keep every logit.
        """
        del prediction_loss_only, ignore_keys
        inputs = self._prepare_inputs(inputs)
        # Smoothing takes the labels out of the inputs.
        batch = dict(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(
                model,
                inputs,
                return_outputs=True,
                num_items_in_batch=self._get_num_items_in_batch([inputs], self.args.device),
            )
            kept = self._task.predict(self.model, batch, outputs)
            losses = self._task.losses(batch, outputs, kept)
        return loss.detach().mean(), kept.detach(), losses.detach()

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Score the outputs and keep them: to measure the best weights again would take a pass."""
        output = super().evaluation_loop(*args, **kwargs)
        outputs = np.asarray(output.predictions)
        prefix = kwargs["metric_key_prefix"]
        name = prefix.removeprefix("eval_")
        split = self._measured[name]
        outputs = self._complete(split, outputs)
        statistics = self._task.statistics(split.rows, split.encoded, outputs)
        scores = self._task.score(statistics.sum(axis=0))
        assert output.metrics is not None
        output.metrics.update({f"{prefix}_{key}": float(value) for key, value in scores.items()})
        if prefix != name:
            best, step = self.state.best_global_step, self.state.global_step
            needed = (0, best, step)
            self._outputs = {s: kept for s, kept in self._outputs.items() if s in needed}
            self._outputs.setdefault(step, {})[name] = outputs
            losses = np.zeros((len(split.rows), 2))
            np.add.at(losses, np.asarray(split.encoded["index"]), np.asarray(output.label_ids))
            if name == "validation" and not step:
                self._losses.untuned = statistics
            self._losses.add(name, step, float(output.metrics[f"{prefix}_loss"]), losses)
        return output._replace(predictions=outputs)

    @property
    def row_losses(self) -> Mapping[str, Mapping[int, Array]]:
        """Split -> step of an evaluation -> of each row the sum of losses, and of how many.

        Of many rows a part, spread evenly; of many evaluations some, the lowest and the last two
        among them.
        """
        return self._losses.by_split

    @property
    def untuned_statistics(self) -> Array | None:
        """What each row of validation added to the task's sums before training, if measured then.

        A resumed run has it from its checkpoint.
        """
        return self._losses.untuned

    @property
    def _tokenizer(self) -> transformers.PreTrainedTokenizerBase:
        assert isinstance(self.processing_class, transformers.PreTrainedTokenizerBase)
        return self.processing_class

    def _complete(self, split: Split, outputs: Array) -> Array:
        """Add what the task computes of a whole split, and note what it takes."""
        started = time.perf_counter()
        with self.compute_loss_context_manager():
            completed = self._task.complete(
                # Without its wrapper the model would go on in another precision.
                self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=True).eval(),
                self._tokenizer,
                split.rows,
                split.encoded,
                outputs,
            )
        if completed is None:
            return outputs
        self.seconds_completing += time.perf_counter() - started
        return completed

    def untuned_outputs(self, name: str) -> Array | None:
        """Return what was kept of a split before training.

        None if it was not measured then, or by another process: the weights are no longer there.
        """
        return self._outputs.get(0, {}).get(name)

    def outputs_of(self, name: str, *, step: int) -> Array:
        """Return what was kept of a split in the evaluation at ``step``.

        If a run was resumed after its best evaluation, the best weights are measured again.
        """
        if name not in self._outputs.get(step, {}):
            _, outputs = self.measure(name, self._measured[name])
            self._outputs.setdefault(step, {})[name] = outputs
        return self._outputs[step][name]

    def measure(self, name: str, split: Split) -> tuple[dict[str, float], Array]:
        """Measure the weights as they are on another split: scores with the loss, and outputs."""
        self._measured[name] = split
        output = self.predict(split.encoded, metric_key_prefix=name)
        named = {key.removeprefix(f"{name}_"): v for key, v in (output.metrics or {}).items()}
        return without_timings(named), np.asarray(output.predictions)

    def answer(self, split: Split) -> Array:
        """Return what is kept of a few rows, computed in full precision as a saved model does."""
        model = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False).eval()
        batch = self.data_collator(list(self._remove_unused_columns(split.encoded)))
        inputs = self._prepare_inputs(batch)
        with torch.inference_mode():
            kept = self._task.predict(model, inputs, model(**inputs))
        outputs: Array = kept.cpu().numpy()
        completed = self._task.complete(model, self._tokenizer, split.rows, split.encoded, outputs)
        return outputs if completed is None else completed

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Save a checkpoint; delete one that could not be saved in full.

        On a full disk it would take the space that the run needs to log its failure.
        """
        folder = Path(str(self.args.output_dir))
        checkpoint = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        try:
            if not self.args.save_only_model:
                self._losses.save(checkpoint)
            super()._save_checkpoint(model, trial)
        except Exception:
            if not is_complete(checkpoint):
                shutil.rmtree(checkpoint, ignore_errors=True)
            raise

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *args: Any, **kwargs: Any) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, *args, **kwargs)
        self._losses = RowLosses.load(Path(resume_from_checkpoint))

    def _get_train_sampler(
        self, train_dataset: Dataset | None = None
    ) -> torch.utils.data.Sampler[int] | None:
        sampler = super()._get_train_sampler(train_dataset)
        if not isinstance(sampler, LengthGroupedSampler):
            return sampler
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return ResumableLengthSampler(sampler.batch_size, lengths=sampler.lengths, seed=seed)

    def _save(self, *args: Any, **kwargs: Any) -> None:
        """Save without the token of the hub, which would be pickled with the arguments."""
        token, self.args.hub_token = self.args.hub_token, None
        try:
            super()._save(*args, **kwargs)
        finally:
            self.args.hub_token = token

    def _get_eval_sampler(self, eval_dataset: Dataset) -> torch.utils.data.Sampler[int] | None:
        if self.args.world_size <= 1:
            return SequentialSampler(eval_dataset)
        return super()._get_eval_sampler(eval_dataset)
