-- Pieces of speech to fit a tokenizer on, in keyed order: per language until $reach times its quota
-- of seconds is there, per speaker no more than $speaker_seconds. One row per piece.
-- Needs the macro `pieces` and the relation `quotas` (language, seconds).
with ordered as (
    select
        *,
        xor(key_hash, $mask::ubigint) as place,
    from pieces($longest_s)
),

by_speaker as (
    select
        *,
        case
            when speaker is null then 0
            else sum(duration_s) over (
                partition by language, corpus, speaker
                order by place, utt_id, offset_s
                rows between unbounded preceding and 1 preceding
            )
        end as speaker_before_s,
    from ordered
),

by_language as (
    select
        *,
        sum(duration_s) over (
            partition by language
            order by place, utt_id, offset_s
            rows between unbounded preceding and 1 preceding
        ) as language_before_s,
    from by_speaker
    where coalesce(speaker_before_s, 0) < $speaker_seconds
)

select
    by_language.utt_id,
    by_language.audio,
    by_language.offset_s,
    by_language.duration_s,
    by_language.language,
    by_language.audio_version,
from by_language
inner join quotas using (language)
where coalesce(by_language.language_before_s, 0) < $reach * quotas.seconds
order by by_language.place, by_language.utt_id, by_language.offset_s
