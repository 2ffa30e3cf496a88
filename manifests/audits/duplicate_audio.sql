-- title: The same sound twice
-- severity: warning
-- why: It is one recording under two names: counted twice, and two transcripts of it may disagree.
-- fix: Keep one of each: cslm-data dedup, or cslm-data filter "utt_id = '…'" --reason duplicate_audio.

-- One row per sound.
select
    len(heard) as utterances,
    list_sort(list_distinct(list_transform(heard, lambda one: one.corpus))) as corpora,
    len(list_distinct(list_transform(heard, lambda one: one.text_key))) as transcripts,
    list_sort(list_transform(heard, lambda one: one.utt_id)) as utt_ids,
from repeated_sounds
order by utterances desc, utt_ids[1];
