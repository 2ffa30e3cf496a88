-- Text that spells a control token or a unit. One row per text.
-- It is trained as plain characters, so it can do no harm, but it is rarely what a corpus should hold.
with texts as (
    select utt_id as id, corpus, text from utterances
    union all
    select pair_id as id, corpus, src as text from bitext
    union all
    select pair_id as id, corpus, tgt as text from bitext
    union all
    select dialogue_id as id, corpus, text from dialogue_turns
)

select id, corpus, left(text, 200) as text
from texts
where regexp_matches(text, '<\|[a-z_]+\|>|<sosp>|<eosp>|<Un[0-9]+>')
order by corpus, id;
