-- Ids of a dialogue manifest's utterances whose audio another manifest already describes: the turn is
-- linked to that one. One row per id.
select incoming.utt_id
from incoming
inner join all_utterances
    on
        incoming.audio = all_utterances.audio
        and incoming.offset_s = all_utterances.offset_s
        and incoming.source_uri <> all_utterances.source_uri
group by incoming.utt_id
order by incoming.utt_id;
