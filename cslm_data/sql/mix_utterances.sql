-- Candidates of continuation: speech of a language, transcribed or not. One row per utterance.
-- {where} and {order_by} are the recipe's, over `utterances`.
with chosen as (
    select utt_id, key_hash, corpus, split, language, text, text_key, audio_version, {order_by} as quality
    from utterances
    where language = $language and ({where})
),

encoded as (
    select utt_id, audio_version, units, durations
    from units
    where tokenizer_id = $tokenizer_id
)

select
    [chosen.utt_id] as source_ids,
    chosen.corpus,
    [chosen.split] as splits,
    coalesce(chosen.text_key, chosen.key_hash) as sentence,
    chosen.quality,
    [{
        'role': 'user',
        'language': chosen.language,
        'text': chosen.text,
        'units': encoded.units,
        'durations': encoded.durations,
        'words': null::struct(word varchar, start_s double, end_s double, score double)[],
        'excluded': null::varchar
    }] as turns,
from chosen
left join encoded using (utt_id, audio_version)
order by chosen.utt_id
