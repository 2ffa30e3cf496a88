-- title: Samples of a mix whose source is no longer in the catalog
-- severity: error
-- why: The corpus changed, or rows were moved out, after the mix was built: it trains on what is gone.
-- fix: cslm-data build-mix … --overwrite
-- needs: mix

-- One row per (mix, source). A spoken turn whose utterance was moved out counts for its dialogue.
select mix, id, min(why) as why, count(*) as samples, min("key") as example
from gone_sources
group by mix, id
order by mix, id;
