-- Candidates of s2s, t2s and s2t: exchanges of questions and answers, inside a dialogue of one language,
-- or a first question in one language and its answer in another, from two dialogues that say the same
-- (`parallel_id`). One row per dialogue, or per two of them. Of a dialogue those exchanges count that come
-- before the first turn that is not spoken though it should be, or out of order.
-- $spoken_questions, $spoken_answers: which turns must be spoken.
-- {where} and {order_by} are the recipe's, over `dialogues`.
with chosen as (
    select dialogue_id, corpus, split, parallel_id, turns, {order_by} as quality
    from dialogues
    where ({where})
),

said as (
    select
        dialogue_turns.*,
        dialogue_turns.utt_id is not null or chosen.turns[turn].audio is not null as is_spoken,
        row_number() over (partition by dialogue_id order by turn) as place,
    from chosen
    inner join dialogue_turns using (dialogue_id)
    where "role" <> 'system'
),

checked as (
    select
        *,
        case
            when place % 2 = 1 then "role" = 'user' and (is_spoken or not $spoken_questions)
            else "role" = 'assistant' and (is_spoken or not $spoken_answers)
        end as fits,
    from said
),

usable as (
    select *, min(case when not fits then place end) over (partition by dialogue_id) as stops
    from checked
),

exchanges as (
    select *, count(*) over (partition by dialogue_id) as num_turns
    from usable
    where stops is null or place < stops
),

kept as (
    select *
    from exchanges
    where place <= num_turns - num_turns % 2
),

inside as (
    select dialogue_id as question_id, dialogue_id as answer_id, dialogue_id, place
    from kept
    where $language = $answer_language
        and dialogue_id in (
            select dialogue_id from kept group by dialogue_id having bool_and(language = $language)
        )
),

questions as (
    select kept.dialogue_id, chosen.parallel_id
    from kept
    inner join chosen using (dialogue_id)
    where place = 1 and language = $language
),

answers as (
    select kept.dialogue_id, chosen.parallel_id
    from kept
    inner join chosen using (dialogue_id)
    where place = 2 and language = $answer_language
),

across as (
    select questions.dialogue_id as question_id, answers.dialogue_id as answer_id
    from questions
    inner join answers using (parallel_id)
    where $language <> $answer_language and questions.dialogue_id <> answers.dialogue_id
    union
    select questions.dialogue_id as question_id, answers.dialogue_id as answer_id
    from questions
    inner join answers using (dialogue_id)
    where $language <> $answer_language
),

placed as (
    select * from inside
    union all
    select question_id, answer_id, question_id as dialogue_id, 1 as place from across
    union all
    select question_id, answer_id, answer_id as dialogue_id, 2 as place from across
),

encoded as (
    select units.utt_id, any_value(units.units) as units, any_value(units.durations) as durations
    from units
    inner join utterances using (utt_id, audio_version)
    where units.tokenizer_id = $tokenizer_id and utt_id in (select utt_id from kept)
    group by units.utt_id
),

spoken as (
    select
        placed.question_id,
        placed.answer_id,
        list({
            'role': kept."role",
            'language': kept.language,
            'text': kept.text,
            'units': encoded.units,
            'durations': encoded.durations,
            'words': case when kept."role" = 'assistant' then aligned.words end,
            'excluded': kept.excluded
        } order by placed.place) as turns,
        arg_min(kept.text_key, placed.place) as sentence,
    from placed
    inner join kept using (dialogue_id, place)
    left join encoded using (utt_id)
    left join best_alignments as aligned using (utt_id)
    group by placed.question_id, placed.answer_id
)

select
    case
        when question_id = answer_id then [question_id]
        else [question_id, answer_id]
    end as source_ids,
    asked.corpus,
    [asked.split, answered.split] as splits,
    sentence,
    asked.quality,
    spoken.turns,
from spoken
inner join chosen as asked on question_id = asked.dialogue_id
inner join chosen as answered on answer_id = answered.dialogue_id
order by question_id, answer_id
