-- How many utterances have units of each speech tokenizer. One row for each, with its name and size.
with counted as (
    select
        units.tokenizer_id,
        count(*) as num_utterances,
        count(*) filter (where utterances.key_hash <= $key_limit) as num_counted,
    from units
    inner join utterances using (utt_id, audio_version)
    group by all
),

named as (
    select tokenizer_id, min(name) as name, max(num_units) as num_units
    from tokenizers
    group by all
)

select
    counted.tokenizer_id,
    coalesce(named.name, counted.tokenizer_id) as name,
    named.num_units,
    counted.num_utterances,
    counted.num_counted,
from counted
left join named using (tokenizer_id)
order by name, tokenizer_id
