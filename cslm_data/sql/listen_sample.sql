-- Speech to fit a regression from units to sound on, in keyed order until $seconds of it are there;
-- of a long recording its first $longest_s seconds count. One row per utterance.
with ordered as (
    select
        utterances.utt_id,
        utterances.audio,
        utterances.offset_s,
        least(utterances.duration_s, $longest_s) as duration_s,
        units.units,
        units.durations,
        xor(utterances.key_hash, $mask::ubigint) as place,
    from utterances
    inner join units using (utt_id, audio_version)
    where units.tokenizer_id = $tokenizer_id
)

select
    audio,
    offset_s,
    duration_s,
    units,
    durations,
from ordered
qualify coalesce(sum(duration_s) over (
    order by place, utt_id
    rows between unbounded preceding and 1 preceding
), 0) < $seconds
order by place, utt_id
