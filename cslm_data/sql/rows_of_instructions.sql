-- Rows of text instructions → dialogues. One row per row of the file. A prompt is a string, or a list of
-- turns (strings, or objects with `content`) that begins and ends with the user.
with read as (
    select
        * exclude (corpus),
        coalesce(corpus, $corpus, $stem) as corpus,
        coalesce("language", lang, $language) as spoken,
        coalesce(response, "output") as answer,
        case
            when instruction is not null
                then [instruction || coalesce(chr(10) || "input", '')]
            when json_type(prompt) = 'ARRAY'
                then list_transform(
                    from_json(prompt, '["JSON"]'),
                    lambda turn: coalesce(turn ->> '$.content', if(json_type(turn) = 'VARCHAR', turn ->> '$', null))
                )
            when prompt is not null then [prompt ->> '$']
        end as prompts,
    from fields
),

told as (
    select
        *,
        coalesce(
            len(prompts) = 0 or len(list_filter(prompts, lambda said: trim(coalesce(said, '')) = '')) > 0,
            true
        ) as no_prompt,
        list_append(prompts, answer) as said,
    from read
)

select
    place,
    coalesce(id, content_id(corpus, array_to_string(said, chr(31)))) as dialogue_id,
    corpus,
    null::varchar as parallel_id,
    list_transform(range(1, len(said) + 1), lambda i: {
        'role': if(i % 2 = 1, 'user', 'assistant'),
        'language': spoken,
        'text': said[i],
        'audio': null::varchar,
        'offset_s': 0.0::double,
        'speaker': null::varchar,
        'utt_id': null::varchar
    }) as turns,
    coalesce(license, $license) as license,
    coalesce(split, $split) as split,
    case
        when reason is not null then reason
        when no_prompt or answer is null then 'empty_text'
        when spoken is null then 'no_language'
        when len(said) % 2 = 1 then 'bad_turns'
    end as reason,
    case
        when reason is not null then detail
        when no_prompt or answer is null then place || ': prompt or response is empty'
        when spoken is null then place || ': no `language`; give --lang'
        when len(said) % 2 = 1 then place || ': a list of turns must begin and end with the user'
    end as detail,
from told
