-- Candidates of instruct with their tokens: dialogues of a language that are text alone. One row per
-- dialogue. Neighbouring turns of one role are one turn of the sample: $user_tokens, $assistant_tokens and
-- $system_tokens are what it takes to open and to close one, that of a first system turn is with what
-- begins the dialogue. {where} and {order_by} are the recipe's, over `dialogues`.
with chosen as (
    select
        key_hash as id_hash,
        split,
        list_filter(turns, lambda t: t.role = 'user')[1].text_key as sentence,
        list_transform(turns, lambda t: t.role) as roles,
        list_transform(turns, lambda t: t.text) as texts,
        {order_by} as quality,
    from dialogues
    where
        language = $language
        and len(list_filter(turns, lambda t: t.audio is not null or t.utt_id is not null)) = 0
        and ({where})
),

said as (
    select
        id_hash,
        unnest(roles) as "role",
        coalesce(unnest(texts), '') as text,
        generate_subscripts(roles, 1) as place,
    from chosen
),

opened as (
    select *, lag("role") over (partition by id_hash order by place) is distinct from "role" as opens
    from said
),

counted as (
    select
        id_hash,
        sum(coalesce(counts.num_tokens, 0))
            + sum(case when not opens then 0 when "role" = 'user' then $user_tokens when "role" = 'assistant' then $assistant_tokens when place = 1 then 0 else $system_tokens end) as num_tokens,
        sum(strlen(text) + $segment_bytes) as text_bytes,
        bool_or(place = 1 and "role" = 'system') as has_system,
        bool_or("role" = 'user') as has_user,
        arg_max("role", place) as last_role,
        bool_and(trim(text) <> '') as all_said,
    from opened
    left join token_counts as counts on md5_number_lower(opened.text) = counts.text_hash
    group by id_hash
)

select
    chosen.id_hash,
    counted.num_tokens
        + case when has_system then $begin_with_system else $begin_without_system end as num_tokens,
    0 as num_units,
    tar_bytes($fixed_bytes + counted.text_bytes) as num_bytes,
    chosen.sentence,
    chosen.split as split_name,
    chosen.quality,
    case
        when not has_user or last_role <> 'assistant' then 'no_answer'
        when not all_said then 'no_text'
    end as reject_reason,
    case
        when not has_user or last_role <> 'assistant'
        then 'the dialogue does not end with an answer to a user'
        when not all_said then 'one of its turns has no text'
    end as reject_detail,
from chosen
inner join counted using (id_hash)
