-- title: Spoken far faster or slower than the language's other utterances
-- severity: warning
-- why: Usually the transcript is of something else, the segment is cut wrongly, or most of it is
--   silence: the units then learn the wrong words.
-- fix: Listen to some (cslm-data listen UTT), then cslm-data filter "utt_id in (…)" --reason rate.

-- One row per utterance. On a log scale, outside 5 robust standard deviations (1.4826 times the median
-- deviation) and at least a factor of 2 from the median of its language; languages of 20 utterances
-- or more. Single words, and less than half a second, have no rate worth the name.
with rates as (
    select utt_id, corpus, language, text, duration_s, ln(len(text_norm) / duration_s) as rate
    from utterances
    where text_norm <> '' and not is_one_word(text_norm, language) and duration_s >= 0.5
),

medians as (
    select language, median(rate) as typical, 1.4826 * mad(rate) as spread
    from rates
    group by language
    having count(*) >= 20
)

select
    rates.utt_id,
    rates.corpus,
    rates.language,
    round(exp(rates.rate), 2) as characters_per_s,
    round(exp(medians.typical), 2) as typical,
    round(rates.duration_s, 3) as duration_s,
    rates.text,
from rates
inner join medians using (language)
where abs(rates.rate - medians.typical) > greatest(5 * medians.spread, ln(2))
order by abs(rates.rate - medians.typical) desc, rates.utt_id;
