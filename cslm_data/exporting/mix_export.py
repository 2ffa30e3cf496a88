"""mixes/<name> → a folder in the format of another toolkit. Reads the shards, writes the folder.

The folder appears whole or not at all, and says in export.json what it holds. Samples stream from
the shards in the order of the mix: the same mix gives the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cslm_data.errors import CorruptArtefactError, NoDataError, UsageError
from cslm_data.exporting import load_mix_writer
from cslm_data.exporting.catalog_export import CatalogExport, TableCounts
from cslm_data.exporting.folders import DESCRIPTION, check_free, made_whole
from cslm_data.exporting.job import STAGE
from cslm_data.keys import key64
from cslm_data.progress import Progress, progress
from cslm_data.records import SPLITS, Reject, Sample
from cslm_data.reject_files import RejectFile, open_rejects
from cslm_data.shards import MixInfo, ShardFile
from cslm_data.workspace import Workspace, write_json


@dataclass(kw_only=True)
class MixJob:
    """One export of a mix: what to write, and what was."""

    info: MixInfo
    splits: tuple[str, ...]
    temporary: Path
    """Where the folder is made."""
    refused: RejectFile
    bar: Progress
    files: Counter[str] = field(default_factory=Counter)
    """Lines in each file."""
    num_written: int = 0
    num_rejected: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Samples that the format has no place for."""

    def samples(self, shard: Path) -> Iterator[tuple[Sample, int]]:
        """The samples of a shard and the tokens of each."""
        import pyarrow.parquet as pq

        rows = pq.read_table(
            self.info.folder / "mix.parquet",
            columns=["key", "num_tokens"],
            filters=[("shard", "=", shard.name)],
        )
        file = ShardFile(shard)
        if rows["key"].to_pylist() != list(file.index.keys):
            raise CorruptArtefactError(
                f"{shard}: does not hold the samples that mix.parquet says; see what is wrong: "
                f"cslm-data verify {self.info.folder.name}"
            )
        for sample, num_tokens in zip(file.samples(), rows["num_tokens"].to_pylist(), strict=True):
            yield sample, num_tokens
            self.bar.advance()

    def refuse(self, sample: Sample, reason: str, detail: str) -> None:
        """Note a sample that was not written."""
        self.num_rejected += 1
        mix = f"mixes/{self.info.folder.name}"
        self.refused.add(
            Reject(stage=STAGE, corpus=mix, key=sample.key, reason=reason, detail=detail)
        )


def export_mix(
    workspace: Workspace,
    name: str,
    out: Path,
    *,
    format: str,
    split: str | None = None,
    overwrite: bool = False,
) -> CatalogExport:
    """Write the samples of a mix, or of one split of it.

    Raises UsageError, NoDataError when there is none, MissingArtefactError, CorruptArtefactError,
    AlreadyExistsError.
    """
    write = load_mix_writer(format)
    if split is not None and split not in SPLITS:
        raise UsageError(f"--split {split}: the splits of a mix are {', '.join(SPLITS)}")
    info = MixInfo.load(workspace.mixes / name)
    splits = SPLITS if split is None else (split,)
    total = sum(entry.num_samples for entry in info.entries if entry.split in splits)
    if not total:
        raise NoDataError(f"mix {name}: no samples in {', '.join(splits)}")
    target = out.expanduser().absolute()
    check_free(target, overwrite=overwrite)
    refused_path = workspace.rejects / f"{STAGE}-{key64(str(target)):016x}.parquet"
    with (
        made_whole(target) as temporary,
        open_rejects(refused_path) as refused,
        progress("export", total=total, unit="samples") as bar,
    ):
        job = MixJob(info=info, splits=splits, temporary=temporary, refused=refused, bar=bar)
        write(job)
        num_left = job.left_out.total()
        assert job.num_written + job.num_rejected + num_left == total
        counts = TableCounts(
            num_in=total - num_left, num_out=job.num_written, num_rejected=job.num_rejected
        )
        summary = CatalogExport(
            format=format,
            folder=target,
            tables={"samples": counts},
            files=dict(sorted(job.files.items())),
            left_out=dict(job.left_out),
            num_cut=0,
            reject_reasons=dict(sorted(refused.reasons.items())),
        )
        description = {
            "format": format,
            "mix": info.name,
            "mix_id": info.mix_id,
            "tokenizer_id": info.tokenizer_id,
            "num_units": info.num_units,
            "text_tokenizer_id": info.text_tokenizer_id,
            "template_version": info.template_version,
            "rows": {"samples": vars(counts)},
            "left_out": summary.left_out,
            "files": summary.files,
        }
        write_json(temporary / DESCRIPTION, description)
    return summary
