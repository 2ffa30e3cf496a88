-- Recordings whose header is needed: those of the rows that do not state length and sampling rate, or
-- are not to be trusted. The table `to_probe`, one numbered row per recording; and `headers`, empty yet.
create or replace temp table to_probe as
with recordings as (
    select distinct audio
    from raw_utterances
    where
        rowid not in (select verdicts.row_id from verdicts)
        and not ($trust and duration_s is not null and sample_rate_hz is not null)
)

select audio, row_number() over () as number
from recordings;

create or replace temp table headers (
    audio varchar,
    duration_s double,
    sample_rate_hz integer,
    num_channels integer,
    audio_version varchar,
    reason varchar,
    detail varchar,
);
