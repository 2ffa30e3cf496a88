-- title: A speaker in train and in a held-out split
-- severity: warning
-- why: A test on voices that were trained on says little of new voices.
-- fix: Give each speaker to one split in the manifests, or move one side out: cslm-data filter
--   "speaker = '…' and split = 'train'" --reason speaker_leak.

-- One row per (corpus, speaker); utt_ids are the held-out ones. Corpora without splits are left out.
with shared as (
    select corpus, speaker, count(*) filter (where split_kind(split) = 'train') as train_utterances
    from utterances
    where speaker is not null and split is not null
    group by corpus, speaker
    having bool_or(split_kind(split) = 'train') and bool_or(split_kind(split) <> 'train')
)

select
    corpus,
    speaker,
    any_value(shared.train_utterances) as train_utterances,
    count(*) as held_out_utterances,
    list_sort(list(distinct utterances.split)) as held_out_in,
    list(utterances.utt_id order by utterances.utt_id) as utt_ids,
from utterances
inner join shared using (corpus, speaker)
where split_kind(utterances.split) <> 'train'
group by corpus, speaker
order by corpus, speaker;
