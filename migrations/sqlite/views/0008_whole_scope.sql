-- Who sees which row is PostgreSQL's to say (there this asks it once a statement); here the service alone does. The number stands so
-- that both have the same.
select 1;
