-- Utterances corpus by corpus. `in_dialogue`: a dialogue that is exported is what says of it that it is
-- there, so it needs no line of its own. One row per utterance.
with chosen as (
    {export_chosen}
),

spoken as (
    select source_uri, unnest(turns) as t
    from ({export_chosen_dialogues}) as exported
    where exported.moved_turn is null
),

said as (
    select distinct source_uri, t.utt_id as utt_id
    from spoken
    where t.utt_id is not null
)

select
    chosen.utt_id,
    chosen.corpus,
    chosen.audio,
    chosen.offset_s,
    chosen.duration_s,
    chosen.sample_rate_hz,
    chosen.num_channels,
    chosen.language,
    chosen.speaker,
    chosen.text,
    chosen.kind,
    chosen.license,
    chosen.split,
    said.utt_id is not null as in_dialogue,
from chosen
left join said using (utt_id, source_uri)
order by chosen.corpus, chosen.utt_id
