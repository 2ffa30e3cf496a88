-- title: Markup, noise tags or addresses in a transcript or translation
-- severity: warning
-- why: Nobody says "<b>" or "[noise]": the model learns to write them, or to speak them.
-- fix: Clean the text in the manifest and ingest again, or cslm-data filter
--   "regexp_matches(text, '\[noise\]')" --reason markup.

-- One row per text. Tags, entities and addresses in transcripts and translations; what stands in
-- square, curly or angle brackets in transcripts. Dialogues may be about code: see control_tokens.
with written as (
    select
        table_name,
        id,
        field,
        corpus,
        "text",
        regexp_extract(
            "text",
            '</?[A-Za-z][A-Za-z0-9]*(?:\s[^<>]*)?/?>|&(?:[A-Za-z]{2,8}|#[0-9]{1,6}|#x[0-9A-Fa-f]{1,6});|https?://|www\.[a-z]'
        ) as in_any,
        if(table_name = 'utterances', regexp_extract("text", '\[[^\[\]]*\]|\{[^{}]*\}|<[^<>]+>'), '') as in_transcripts,
    from texts
    where table_name <> 'dialogues' and regexp_matches("text", '[<\[{&]|://|www')
),

plain as (
    select *
    from written
    where not regexp_matches("text", '<\|[A-Za-z0-9_]+\|>|</?s>|<sosp>|<eosp>|<Un[0-9]+>|\[/?INST\]|<<SYS>>|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn)>')
)

select
    if(table_name = 'utterances', id, null) as utt_id,
    if(table_name = 'bitext', id, null) as pair_id,
    field,
    corpus,
    if(in_any <> '', in_any, in_transcripts) as found,
    left("text", 200) as "text",
from plain
where in_any <> '' or in_transcripts <> ''
order by corpus, table_name, id, field;
