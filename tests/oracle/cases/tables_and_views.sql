-- Tables, views, materialized views

-- [create_table]
create table nt(id int primary key);

-- [create_table_fk]
create table nt(id int primary key, u bigint references users(id));

-- [create_table_like]
create table nt(like orders including all);

-- [create_table_as]
create table nt as select * from users;

-- [create_table_inherits]
create table nt(e int) inherits (inh);

-- [drop_table]
drop table nopk;

-- [drop_table_with_fk] child has an FK to parent
drop table child;

-- [drop_table_cascade_ref] parent is referenced by child
drop table parent cascade;

-- [truncate]
truncate orders;

-- [truncate_cascade]
truncate parent cascade;

-- [lock_table]
lock table orders;

-- [create_view]
create view v2 as select id from orders;

-- [replace_view]
create or replace view vw as select id, email from users where id > 0;

-- [drop_view]
drop view vw;

-- [create_matview]
create materialized view mv2 as select id from orders;

-- [refresh_mv]
refresh materialized view mv;

-- [refresh_mv_conc]
refresh materialized view concurrently mv;

-- [analyze]
-- alone:
analyze orders;

-- [vacuum]
-- alone:
vacuum orders;

-- [vacuum_full]
-- alone:
vacuum full orders;

-- [cluster]
cluster nopk using nopk_k_ready;
