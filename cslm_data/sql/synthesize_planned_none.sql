-- Before the first plan of a job: nothing is planned.
create or replace temp view planned as
select id, version
from chosen
where false
