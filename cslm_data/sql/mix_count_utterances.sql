-- Candidates of asr and tts with their tokens, the wording of the prompt apart: transcribed utterances of
-- a language. One row per utterance. {where} and {order_by} are the recipe's, over `utterances`.
with chosen as (
    select
        key_hash as id_hash,
        utt_id,
        audio_version,
        split,
        text_key as sentence,
        md5_number_lower(text) as text_hash,
        strlen(text) as text_bytes,
        {order_by} as quality,
    from utterances
    where language = $language and text_key is not null and ({where})
),

encoded as (
    select utt_id, audio_version, min(len(units)) as num_units
    from units
    where tokenizer_id = $tokenizer_id
    group by utt_id, audio_version
)

select
    chosen.id_hash,
    $fixed_tokens + coalesce(counts.num_tokens, 0) + coalesce(encoded.num_units, 0) as num_tokens,
    coalesce(encoded.num_units, 0) as num_units,
    tar_bytes($fixed_bytes + chosen.text_bytes) + tar_bytes(128 + 2 * coalesce(encoded.num_units, 0)) as num_bytes,
    chosen.sentence,
    chosen.split as split_name,
    chosen.quality,
    case when coalesce(encoded.num_units, 0) = 0 then 'no_units' end as reject_reason,
    case
        when coalesce(encoded.num_units, 0) = 0
        then 'the speech has no units of this tokenizer; run cslm-data quantize, or see why it was rejected there'
    end as reject_detail,
from chosen
left join encoded using (utt_id, audio_version)
left join token_counts as counts using (text_hash)
