-- Dialogues corpus by corpus; `kind` is that of the utterances which they alone describe. One row per
-- dialogue.
with exported as (
    {export_chosen_dialogues}
),

spoken as (
    select dialogue_id, source_uri, unnest(turns) as t
    from exported
),

kinds as (
    select spoken.dialogue_id, min(utterances.kind) as kind
    from spoken
    inner join utterances on spoken.t.utt_id = utterances.utt_id and spoken.source_uri = utterances.source_uri
    group by spoken.dialogue_id
)

select
    exported.dialogue_id,
    exported.corpus,
    exported.parallel_id,
    exported.turns,
    exported.license,
    exported.split,
    kinds.kind,
    exported.moved_turn,
from exported
left join kinds using (dialogue_id)
order by exported.corpus, exported.dialogue_id
