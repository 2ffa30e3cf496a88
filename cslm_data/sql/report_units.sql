-- How often each unit is used. One row per speech tokenizer, label of a language and unit in use.
with runs as (
    select units.tokenizer_id, report_languages.label, unnest(units.units) as unit
    from units
    inner join utterances using (utt_id, audio_version)
    inner join report_languages using (language)
    where utterances.key_hash <= $key_limit
)

select tokenizer_id, label, unit, count(*) as num_tokens
from runs
group by all
order by tokenizer_id, label, unit
