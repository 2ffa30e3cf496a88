-- Utterances whose characters per second are far from their language's median. One row per utterance.
-- Usually a wrong transcript, a wrong segment or long silence; listen before you train on them.
with rates as (
    select utt_id, corpus, language, text, duration_s, len(text_norm) / duration_s as characters_per_s
    from utterances
    where text_norm <> ''
),

medians as (
    select language, median(characters_per_s) as typical, mad(characters_per_s) as spread
    from rates
    group by language
    having count(*) >= 20
)

select
    rates.utt_id,
    rates.corpus,
    rates.language,
    round(rates.characters_per_s, 2) as characters_per_s,
    round(medians.typical, 2) as typical,
    rates.text,
from rates
inner join medians using (language)
where abs(rates.characters_per_s - medians.typical) > 6 * medians.spread
order by rates.language, rates.utt_id;
