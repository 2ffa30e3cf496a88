-- title: Utterances without units
-- severity: warning
-- why: They are in no speech task of a mix.
-- fix: cslm-data quantize; what it refused, and why: cslm-data sql "from rejects where stage =
--   'quantize'".
-- needs: units

-- One row per (speech tokenizer, corpus).
with quantized as (
    select distinct tokenizer_id from units
)

select
    quantized.tokenizer_id,
    utterances.corpus,
    count(*) as utterances,
    sum(utterances.duration_s) / 3600 as hours,
    min(utterances.utt_id) as example,
from utterances
cross join quantized
left join units
    on
        units.tokenizer_id = quantized.tokenizer_id
        and units.utt_id = utterances.utt_id
        and units.audio_version = utterances.audio_version
where units.utt_id is null
group by quantized.tokenizer_id, utterances.corpus
order by quantized.tokenizer_id, utterances.corpus;
