-- Candidates of st and s2st: an utterance of a language whose transcript a translation has on one side;
-- st answers with the other side, s2st with an utterance that speaks it. One row per utterance, of its
-- first translation, and of that its first speech.
-- {where} and {order_by} are the recipe's, over `utterances`, that of the question.
with chosen as (
    select utt_id, corpus, split, text, text_key, audio_version, {order_by} as quality
    from utterances
    where language = $language and text_key is not null and ({where})
),

directed as (
    select pair_id, split, src_key as asked, tgt as answer, tgt_key as answer_key
    from bitext
    where src_lang = $language and tgt_lang = $answer_language
    union all
    select pair_id, split, tgt_key as asked, src as answer, src_key as answer_key
    from bitext
    where tgt_lang = $language and src_lang = $answer_language
),

answers as (
    select text_key, min(utt_id) as utt_id
    from utterances
    where language = $answer_language and text_key is not null
    group by text_key
),

matched as (
    select
        chosen.*,
        directed.pair_id,
        directed.split as pair_split,
        directed.answer,
        answers.utt_id as answer_id,
    from chosen
    inner join directed on chosen.text_key = directed.asked
    left join answers on directed.answer_key = answers.text_key
    where not $spoken or answers.utt_id is not null
    qualify row_number() over (partition by chosen.utt_id order by directed.pair_id) = 1
),

encoded as (
    select utt_id, audio_version, units, durations
    from units
    where tokenizer_id = $tokenizer_id
),

said as (
    select utterances.utt_id, utterances.split, utterances.text, encoded.units, encoded.durations
    from utterances
    left join encoded using (utt_id, audio_version)
    where language = $answer_language
)

select
    case
        when $spoken then [matched.utt_id, matched.pair_id, matched.answer_id]
        else [matched.utt_id, matched.pair_id]
    end as source_ids,
    matched.corpus,
    case
        when $spoken then [matched.split, matched.pair_split, said.split]
        else [matched.split, matched.pair_split]
    end as splits,
    matched.text_key as sentence,
    matched.quality,
    [
        {
            'role': 'user',
            'language': $language,
            'text': matched.text,
            'units': encoded.units,
            'durations': encoded.durations,
            'words': null::struct(word varchar, start_s double, end_s double, score double)[],
            'excluded': null::varchar
        },
        {
            'role': 'assistant',
            'language': $answer_language,
            'text': case when $spoken then said.text else matched.answer end,
            'units': case when $spoken then said.units end,
            'durations': case when $spoken then said.durations end,
            'words': case when $spoken then aligned.words end,
            'excluded': null
        },
    ] as turns,
from matched
left join encoded using (utt_id, audio_version)
left join said on matched.answer_id = said.utt_id
left join best_alignments as aligned on matched.answer_id = aligned.utt_id
order by matched.utt_id
