-- Recordings whose header is needed: those of the rows that do not state length and sampling rate, or
-- are not to be trusted. One row per recording.
select distinct audio
from raw_utterances
where
    rowid not in (select verdicts.row_id from verdicts)
    and not ($trust and duration_s is not null and sample_rate_hz is not null)
