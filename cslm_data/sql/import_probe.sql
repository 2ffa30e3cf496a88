-- Some of the utterances that are taken, in keyed order, to compare with the tokenizer's own units.
-- One row per utterance. Needs the table `matched` and the relation `staged`.
select
    matched.audio,
    matched.offset_s,
    matched.duration_s,
    staged.units,
    staged.durations,
from matched
inner join staged using (line)
where matched.reason is null and not matched.is_already
order by xor(matched.key_hash, $mask::ubigint), matched.utt_id
limit $limit
