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

-- [create_table_unique_and_check]
create table nt (id int primary key, a int unique check (a > 0), b text default 'x');

-- [create_table_two_foreign_keys]
create table nt (u bigint references users(id), p int references parent(id), s int);

-- [create_table_fk_self]
create table nt (id int primary key, up int references nt (id));

-- [create_table_fk_to_partitioned]
create table nt (area text, id int, foreign key (area, id) references deep (area, id));

-- [create_table_fk_no_unique]
create table nt (u int references unl (x));

-- [create_table_fk_missing]
create table nt (u int references nosuch (x));

-- [create_table_like_plain]
create table nt (like users);

-- [create_table_like_defaults_and_fk]
create table nt (like child including all, foreign key (pid) references parent (id));

-- [create_table_inherits_two]
create table nt () inherits (inh, base);

-- [create_table_of_type]
create table nt of addr;

-- [create_table_as_values]
create table nt as values (1, 'a');

-- [create_table_as_no_data]
create table nt as select * from orders with no data;

-- [create_table_temp]
create temp table nt (id int primary key, u bigint);

-- [create_table_temp_like_name] it hides the other one
create temp table orders (id int);
alter table orders add column c float8 default random();

-- [create_table_unlogged]
create unlogged table nt (id serial primary key);

-- [create_table_partitioned]
create table nt (id int primary key) partition by hash (id);
create table nt0 partition of nt for values with (modulus 1, remainder 0);

-- [select_into]
select * into nt from users;

-- [drop_two_tables]
drop table nopk, unl;

-- [drop_partitioned_table]
drop table deep;

-- [drop_inherited_parent]
drop table base;

-- [drop_inherited_parent_cascade]
drop table base cascade;

-- [drop_child]
drop table derived;

-- [drop_table_with_view]
drop table users;

-- [drop_table_with_view_cascade]
drop table users cascade;

-- [drop_referenced]
drop table parent;

-- [drop_both_ends]
drop table parent, child;

-- [drop_self_referencing]
drop table tree;

-- [drop_table_with_sequence]
drop table serials;

-- [drop_matview]
drop materialized view mv;

-- [drop_sequence]
drop sequence sq;

-- [drop_owned_sequence]
drop sequence serials_id_seq;

-- [drop_owned_sequence_cascade]
drop sequence serials_id_seq cascade;

-- [truncate_two]
truncate unl, nopk;

-- [truncate_referenced]
truncate parent;

-- [truncate_both_ends]
truncate parent, child;

-- [truncate_restart]
truncate serials restart identity;

-- [truncate_partitioned]
truncate deep;

-- [truncate_only]
truncate only base;

-- [truncate_inherited]
truncate base;

-- [lock_share]
lock table orders in share mode;

-- [lock_row_exclusive]
lock table orders, users in row exclusive mode;

-- [lock_exclusive_nowait]
lock table orders in exclusive mode nowait;

-- [lock_partitioned]
lock table deep in share row exclusive mode;

-- [lock_only]
lock table only base in access exclusive mode;

-- [lock_inherited]
lock table base in access exclusive mode;

-- [lock_view] what the view reads is locked too
lock table vw in access exclusive mode;

-- [create_view_replaced_other_columns]
create or replace view vw as select id from users;

-- [create_view_of_missing]
create view v2 as select id from nosuch;

-- [create_view_there]
create view vw as select 1;

-- [create_view_recursive]
create recursive view v2 (n) as values (1) union all select n + 1 from v2 where n < 5;

-- [drop_view_used]
-- before:
create view on_view as select id from vw;
-- then:
drop view vw;

-- [drop_view_used_cascade]
-- before:
create view on_view as select id from vw;
-- then:
drop view vw cascade;

-- [alter_view_owner]
alter view vw owner to r1;

-- [alter_view_options]
alter view vw set (security_barrier = true);

-- [alter_matview_rename]
alter materialized view mv rename to mv9;

-- [alter_matview_rename_column]
alter materialized view mv rename column name to label;

-- [create_matview_no_data]
create materialized view mv2 as select * from orders with no data;

-- [refresh_mv_no_data]
refresh materialized view mv with no data;

-- [refresh_mv_conc_without_unique]
refresh materialized view concurrently watched_copy;

-- [rename_table_with_view]
alter table users rename to people;

-- [set_unlogged_referenced]
alter table parent set unlogged;

-- [set_unlogged_empty]
alter table empty_table set unlogged;

-- [set_unlogged_partitioned]
alter table pt set unlogged;

-- [set_tablespace_default]
alter table orders set tablespace pg_default;

-- [set_tablespace_partitioned]
alter table pt set tablespace ts1;

-- [set_several_options]
alter table orders set (fillfactor = 70, autovacuum_enabled = false, toast.autovacuum_enabled = false);

-- [set_option_unknown]
alter table orders set (nosuch = 1);

-- [several_subcommands] the strongest of all counts
alter table orders set (fillfactor = 70), alter column qty set statistics 100;

-- [several_subcommands_strong]
alter table orders set (fillfactor = 70), alter column qty set default 1;
