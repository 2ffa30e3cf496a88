"""Word times by CTC forced alignment: acoustic models, spelling, alignment, its parts."""
