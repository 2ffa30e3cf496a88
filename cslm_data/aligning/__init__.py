"""Word times by CTC forced alignment: acoustic models, spelling, the alignment itself, its parts."""
