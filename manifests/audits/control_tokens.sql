-- title: Text that spells a control token or a unit
-- severity: warning
-- why: It is trained as plain characters, so it can do no harm, but it is rarely what a corpus should
--   hold: often the output of a model, or an export of token ids.
-- fix: Mend the source and ingest again, or cslm-data filter "utt_id = '…'" --reason control_tokens.

-- One row per text.
select
    if(table_name = 'utterances', id, null) as utt_id,
    if(table_name = 'bitext', id, null) as pair_id,
    if(table_name = 'dialogues', id, null) as dialogue_id,
    field,
    corpus,
    left("text", 200) as "text",
from texts
where regexp_matches("text", '<\|[A-Za-z0-9_]+\|>|</?s>|<sosp>|<eosp>|<Un[0-9]+>|\[/?INST\]|<<SYS>>|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn)>')
order by corpus, table_name, id, field;
