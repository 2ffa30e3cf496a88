-- Speech to train the embedded aligner on: of each language in keyed order until its quota of seconds is
-- there. One row per utterance. Needs the relation `quotas` (language, seconds).
with ordered as (
    select
        *,
        xor(key_hash, $mask::ubigint) as place,
    from utterances
    where "text" is not null and duration_s <= $longest_s
),

by_language as (
    select
        *,
        sum(duration_s) over (
            partition by language
            order by place, utt_id
            rows between unbounded preceding and 1 preceding
        ) as before_s,
    from ordered
)

select
    by_language.utt_id,
    by_language.audio,
    by_language.offset_s,
    by_language.duration_s,
    by_language.language,
    by_language.audio_version,
    by_language."text",
from by_language
inner join quotas using (language)
where coalesce(by_language.before_s, 0) < quotas.seconds
order by by_language.place, by_language.utt_id
