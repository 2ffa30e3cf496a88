-- Candidates of s2s and t2s: a question in one language and its spoken answer, in the same dialogue or
-- in one that says the same (`parallel_id`) in the answer's language. One row per question and answer.
-- Only the first exchange of a dialogue counts. $spoken: whether the question must be spoken.
-- {where} is the recipe's predicate over `dialogues`.
with chosen as (
    select dialogue_id, corpus, split, parallel_id, turns
    from dialogues
    where ({where})
),

exchanges as (
    select
        chosen.dialogue_id,
        chosen.corpus,
        chosen.split,
        chosen.parallel_id,
        said.role,
        said.language,
        said.text,
        said.text_key,
        said.utt_id,
        said.excluded,
        said.utt_id is not null or chosen.turns[said.turn].audio is not null as is_spoken,
        row_number() over (partition by said.dialogue_id order by said.turn) as place,
    from chosen
    inner join dialogue_turns as said using (dialogue_id)
    where said.role <> 'system'
),

questions as (
    select *
    from exchanges
    where place = 1 and role = 'user' and language = $language and (is_spoken or not $spoken)
),

answers as (
    select *
    from exchanges
    where place = 2 and role = 'assistant' and language = $answer_language and is_spoken
),

pairs as (
    select questions.dialogue_id as question_id, answers.dialogue_id as answer_id
    from questions
    inner join answers using (dialogue_id)
    union
    select questions.dialogue_id as question_id, answers.dialogue_id as answer_id
    from questions
    inner join answers using (parallel_id)
    where $language <> $answer_language
),

encoded as (
    select distinct on (utt_id) units.utt_id, units.units, units.durations
    from units
    inner join utterances using (utt_id, audio_version)
    where units.tokenizer_id = $tokenizer_id
),

aligned as (
    select utt_id, arg_min(words, aligner_id) as words
    from alignments
    where words is not null
    group by utt_id
)

select
    case
        when question_id = answer_id then [question_id]
        else [question_id, answer_id]
    end as source_ids,
    questions.corpus as corpus,
    [questions.split, answers.split] as splits,
    questions.text_key as sentence,
    [
        {
            'role': 'user',
            'language': questions.language,
            'text': questions.text,
            'units': asked.units,
            'durations': asked.durations,
            'words': null::struct(word varchar, start_s double, end_s double, score double)[],
            'excluded': questions.excluded
        },
        {
            'role': 'assistant',
            'language': answers.language,
            'text': answers.text,
            'units': answered.units,
            'durations': answered.durations,
            'words': aligned.words,
            'excluded': answers.excluded
        },
    ] as turns,
from pairs
inner join questions on pairs.question_id = questions.dialogue_id
inner join answers on pairs.answer_id = answers.dialogue_id
left join encoded as asked on questions.utt_id = asked.utt_id
left join encoded as answered on answers.utt_id = answered.utt_id
left join aligned on answers.utt_id = aligned.utt_id
order by question_id, answer_id
