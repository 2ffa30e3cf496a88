-- All pieces of speech, those of a recording together. One row per piece.
-- Needs the macro `pieces`.
select
    utt_id,
    audio,
    offset_s,
    duration_s,
    language,
    audio_version,
from pieces($longest_s)
order by audio, offset_s, utt_id
