-- title: Languages and tasks with too little data for the mix asked for
-- severity: warning
-- why: A source that is short is repeated, or its share goes to others: the mix is not what was asked.
-- fix: Ingest more of it, lower its weight in the recipe, or leave the language out of --langs.
-- needs: langs

-- One row per task of the recipe and language, or pair of languages. Below an hour of transcribed speech
-- for asr and tts; below a thousand pairs, instructions or spoken dialogues for mt, instruct, s2s, t2s.
with speech as (
    select language, count(*) as num_rows, sum(duration_s) / 3600 as hours
    from utterances
    where text_norm <> ''
    group by language
),

translations as (
    select least(src_lang, tgt_lang) as one, greatest(src_lang, tgt_lang) as other, count(*) as num_rows
    from bitext
    group by one, other
),

instructions as (
    select language, count(*) as num_rows
    from dialogues
    where len(list_filter(turns, lambda t: t.audio is not null or t.utt_id is not null)) = 0
    group by language
),

exchanges as (
    select
        dialogues.dialogue_id,
        dialogues.parallel_id,
        min(said.language) filter (where said.role = 'user') as language,
        min(said.language) filter (where said.role = 'assistant') as answer_language,
        bool_or(said.utt_id is not null) filter (where said.role = 'user') as is_asked,
        bool_or(said.utt_id is not null) filter (where said.role = 'assistant') as is_answered,
    from dialogues
    inner join dialogue_turns as said using (dialogue_id)
    group by dialogues.dialogue_id, dialogues.parallel_id
),

chats as (
    select asked.language, answered.answer_language, asked.is_asked, count(*) as num_rows
    from exchanges as asked
    inner join exchanges as answered
        on
            asked.dialogue_id = answered.dialogue_id
            or (asked.parallel_id = answered.parallel_id and asked.language <> answered.answer_language)
    where answered.is_answered
    group by all
),

held as (
    select
        wanted.task,
        wanted.language,
        wanted.answer_language,
        wanted.weight,
        case
            when wanted.task in ('asr', 'tts') then speech.num_rows
            when wanted.task = 'mt' then translations.num_rows
            when wanted.task = 'instruct' then instructions.num_rows
            else (
                select sum(chats.num_rows)
                from chats
                where
                    chats.language = wanted.language
                    and chats.answer_language = wanted.answer_language
                    and (chats.is_asked or wanted.task = 't2s')
            )
        end as num_rows,
        if(wanted.task in ('asr', 'tts'), coalesce(speech.hours, 0), null) as speech_hours,
    from wanted
    left join speech on wanted.language = speech.language
    left join instructions on wanted.language = instructions.language
    left join translations
        on
            least(wanted.language, wanted.answer_language) = translations.one
            and greatest(wanted.language, wanted.answer_language) = translations.other
)

select
    task,
    language,
    answer_language,
    round(weight, 4) as share_asked,
    coalesce(num_rows, 0)::bigint as num_rows,
    round(speech_hours, 3) as speech_hours,
    if(task in ('asr', 'tts'), '1 hour', '1000 rows') as wants,
from held
where if(task in ('asr', 'tts'), speech_hours < 1, coalesce(num_rows, 0) < 1000)
order by task, language, answer_language;
