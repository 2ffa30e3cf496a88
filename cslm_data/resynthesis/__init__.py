"""Units → sound, by the tokenizer's own centroids: what a person hears of what the units kept.

    spectrum    log mel energies → waveform (Griffin-Lim)
    cepstra     units of an MFCC tokenizer → log mel energies, with nothing learnt
    regression  units of any tokenizer → log mel energies, by a ridge regression on the workspace
    distance    how far two recordings of the same speech are from each other
    picture     both as one drawing, with the units between them

Everything meets on one grid: Kaldi's 25 ms frames every 10 ms (features/kaldi.py).
"""
