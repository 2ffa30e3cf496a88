-- Words and phones of the utterances exported, corpus by corpus. One row per utterance that has any.
with chosen as (
    {export_chosen}
),

timed as (
    {export_best_alignments}
)

select chosen.utt_id, chosen.corpus, timed.words, timed.phones
from chosen
inner join timed using (utt_id)
order by chosen.corpus, chosen.utt_id
