-- What plots and their figures are made of: numbers per utterance, kept small. Needs $key_limit: units
-- are looked at where an utterance's key is at most that, a fixed sample of a large catalog.
create or replace temp table report_spoken as
select
    language,
    duration_s::float as duration_s,
    case when text_norm <> '' then (len(text_norm) / duration_s)::float end as characters_per_s,
from utterances;

create or replace temp table report_measured as
select
    utterances.language,
    measures.rms_db::float as rms_db,
    measures.snr_db::float as snr_db,
    measures.bandwidth_hz::float as bandwidth_hz,
from measures
inner join utterances using (utt_id, audio_version);

create or replace temp table report_unit_rates as
select
    'units_per_s ' || units.tokenizer_id as measure,
    utterances.language,
    (len(units.units) / utterances.duration_s)::float as value,
from units
inner join utterances using (utt_id, audio_version)
where utterances.key_hash <= $key_limit;

-- One row per utterance and measure that says something of it.
create or replace temp view report_values as
with spoken as (
    unpivot report_spoken on duration_s, characters_per_s into name measure value value
),

measured as (
    unpivot report_measured on rms_db, snr_db, bandwidth_hz into name measure value value
),

together as (
    select measure, language, value from spoken
    union all
    select measure, language, value from measured
    union all
    select measure, language, value from report_unit_rates
)

select measure, language, value
from together
where isfinite(value);
