"""How near to the original units bring speech back: mel-cepstral distortion, mel energies, in dB.

`--held-out` utterances of each corpus are resynthesised and measured; the regression is fitted on
all others (tokenizers are fitted on all, as `cslm-data quantize` does it). Above the units stand
what each step costs alone, and the mean spectrum, which is what knowing nothing costs.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cslm_data.audio import decode
from cslm_data.catalog import open_catalog
from cslm_data.features.kaldi import LogMel
from cslm_data.features.mfcc import MfccExtractor
from cslm_data.ingest import ingest
from cslm_data.quantize import quantize
from cslm_data.resynthesis import cepstra, regression, spectrum
from cslm_data.resynthesis.distance import distance, log_mel
from cslm_data.speech_tokenizer import SpeechTokenizer, expand
from cslm_data.tokenizers.tokenizer_folders import find_tokenizer
from cslm_data.workspace import Workspace

CORPORA = ("real/ljspeech", "real/aishell_sample")
SIZES = (100, 500, 2000)
NUM_CEPSTRA = 13

Floats = NDArray[np.float32]


class Clip(NamedTuple):
    utt_id: str
    corpus: str
    wave_T: Floats
    held_out: bool


def read_clips(workspace: Workspace, num_held_out: int) -> list[Clip]:
    """All utterances in keyed order; the first of each corpus are held out."""
    with open_catalog(workspace, doing="benchmark") as connection:
        rows = connection.execute(
            "select utt_id, corpus, audio, "
            "row_number() over (partition by corpus order by key_hash) "
            "from utterances order by corpus, key_hash"
        ).fetchall()
    return [Clip(u, corpus, decode(audio), rank <= num_held_out) for u, corpus, audio, rank in rows]


def units_of(workspace: Workspace, tokenizer: SpeechTokenizer) -> dict[str, NDArray[np.uint16]]:
    with open_catalog(workspace, doing="benchmark") as connection:
        rows = connection.execute(
            "select utt_id, units, durations from units where tokenizer_id = ?",
            [tokenizer.tokenizer_id],
        ).fetchall()
    return {utt_id: expand(np.array(units), np.array(frames)) for utt_id, units, frames in rows}


def show(name: str, clips: list[Clip], energies: Callable[[Clip], Floats]) -> None:
    """Resynthesise the held-out clips from the energies that a method gives, and measure."""
    found = defaultdict(list)
    for clip in clips:
        if clip.held_out:
            wave_T = spectrum.waveform_of(energies(clip), num_samples=len(clip.wave_T), seed=0)
            far = distance(spectrum.match_loudness(wave_T, clip.wave_T), clip.wave_T)
            found[clip.corpus].append((far.mcd_db, far.mel_db))
    means = (np.mean(values, axis=0) for values in found.values())
    print(
        f"{name:<44}", *(f"{mcd_db:>8.2f} {mel_db:>7.2f}" for mcd_db, mel_db in means), flush=True
    )


def show_units(workspace: Workspace, tokenizer: SpeechTokenizer, clips: list[Clip]) -> None:
    units = units_of(workspace, tokenizer)
    features_KD = tokenizer.normalisation.invert(tokenizer.centroids_KE)

    def held(clip: Clip) -> Floats:
        return cepstra.log_mel_of_cepstra(
            np.repeat(features_KD[units[clip.utt_id], :NUM_CEPSTRA], 2, axis=0)
        )

    def smooth(clip: Clip) -> Floats:
        return cepstra.log_mel_of_units(units[clip.utt_id], features_KD)

    show(f"{tokenizer.name}, centroids held", clips, held)
    show(f"{tokenizer.name}, smooth course (listen)", clips, smooth)
    codes_K1 = np.arange(tokenizer.num_units, dtype=np.float32)[:, None]
    kinds = (("listen --regression", tokenizer.centroids_KE), ("regression, as if codes", codes_K1))
    for kind, centroids_KE in kinds:
        fitted = regression.fit(
            ((units[c.utt_id], log_mel(c.wave_T)) for c in clips if not c.held_out),
            centroids_KE=centroids_KE,
            frame_rate_hz=tokenizer.frame_rate_hz,
        )

        def learnt(clip: Clip, fitted: regression.MelRegression = fitted) -> Floats:
            return fitted.log_mel_of_units(units[clip.utt_id], len(log_mel(clip.wave_T)))

        show(f"{tokenizer.name}, {kind}", clips, learnt)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of real/ and synthetic/")
    parser.add_argument("--held-out", type=int, default=8, help="utterances of each corpus")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder) / "workspace")
        ingest(workspace, [options.data / f"{corpus}.jsonl" for corpus in CORPORA])
        clips = read_clips(workspace, options.held_out)
        corpora = sorted({clip.corpus for clip in clips})
        print(f"{'':<44}", *(f"{corpus:>16}" for corpus in corpora))
        print(f"{'':<44}", *(f"{'MCD dB':>8} {'mel dB':>7}" for _ in corpora))
        coarse = LogMel(23, floor=1e-7)
        cosines = MfccExtractor()._dct_BC

        def thirteen(clip: Clip) -> Floats:
            return cepstra.log_mel_of_cepstra(coarse(clip.wave_T) @ cosines)

        show("its own 80 mel energies", clips, lambda clip: log_mel(clip.wave_T))
        show("its own 23 mel energies", clips, lambda clip: coarse(clip.wave_T))
        show("its own 13 cepstra", clips, thirteen)
        show("its mean spectrum", clips, lambda clip: log_mel(clip.wave_T).mean(axis=0)[None])
        for num_units in SIZES:
            name = quantize(workspace, extractor="mfcc", num_units=num_units).name
            show_units(workspace, find_tokenizer(workspace, name), clips)


if __name__ == "__main__":
    main()
