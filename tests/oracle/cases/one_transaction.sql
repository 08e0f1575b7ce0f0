-- Several statements in one transaction

-- [tx_validate_fk_with_add]
alter table orders add constraint f foreign key (user_id) references users(id) not valid;
alter table orders validate constraint f;

-- [tx_validate_fk_after_addcol_on_referenced]
-- before:
alter table orders add constraint f foreign key (user_id) references users(id) not valid;
-- then:
alter table users add column c int;
alter table orders validate constraint f;

-- [tx_check_committed_between] what validates stands in a transaction of its own
-- alone:
begin;
alter table orders add constraint k check (qty >= 0) not valid;
commit;
alter table orders validate constraint k;

-- [tx_set_nn_proven_in_steps] the safe way to NOT NULL, in autocommit
-- alone:
alter table orders add constraint k2 check (nnv is not null) not valid;
alter table orders validate constraint k2;
alter table orders alter column nnv set not null;
alter table orders drop constraint k2;

-- [tx_set_nn_proven_by_check_of_same_tx] the check scans, what comes after it need not
alter table orders add constraint k2 check (nnv is not null);
alter table orders alter column nnv set not null;

-- [tx_set_nn_after_its_check_is_dropped]
alter table orders drop constraint nnc_chk;
alter table orders alter column nnc set not null;

-- [tx_ddl_then_update_all]
alter table orders add column c int;
update orders set c = 1;

-- [tx_ddl_then_update_one]
alter table orders add column c int;
update orders set c = 1 where id = 5;

-- [tx_update_then_ddl]
update users set name = 'x' where id = 1;
alter table users add column c int;

-- [tx_ddl_then_delete_elsewhere] the delete is not on the table that is locked
alter table users add column c int;
delete from unl;

-- [tx_ddl_then_insert_select]
alter table orders add column c int;
insert into unl select 1 from users;

-- [tx_ddl_then_count]
alter table users add column c int;
select count(*) from unl;

-- [tx_ddl_then_build_elsewhere] an index on another table while the first one is locked
alter table users add column c int;
create index i on orders (nn);

-- [tx_ddl_on_two_tables]
alter table orders add column c int;
alter table users add column c int;

-- [tx_concurrently_after_ddl]
alter table orders add column c int;
create index concurrently i on orders (c);

-- [tx_new_table_index_fk]
create table nt (id int primary key, u bigint);
create index nt_u on nt (u);
alter table nt add constraint nt_u_fkey foreign key (u) references users(id);

-- [tx_new_table_filled]
create table nt (id int, u bigint);
insert into nt select g, g from generate_series(1, 100) g;
create unique index nt_id on nt (id);
alter table nt alter column u set not null;
alter table nt add column c float8 default random();

-- [tx_new_table_references_new_table]
create table na (id int primary key);
create table nb (id int primary key, a int references na (id));

-- [tx_new_table_then_rename_over] the old one makes way for the new one
create table users_new (id bigint primary key, email varchar(100));
alter table users rename to users_old;
alter table users_new rename to users;
alter table users add column c float8 default random();

-- [tx_rename_then_new_name]
alter table orders rename to purchases;
alter table purchases add column c float8 default random();

-- [tx_rename_then_old_name]
alter table orders rename to purchases;
alter table orders add column c int;

-- [tx_rename_twice]
alter table users rename to a;
alter table a rename to b;
update b set name = 'x' where id = 1;

-- [tx_swap_two_tables]
alter table unl rename to unl_old;
alter table inh rename to unl;
alter table unl add column c float8 default random();

-- [tx_rename_column_then_use]
alter table orders rename column nnc to nnc2;
alter table orders alter column nnc2 set not null;

-- [tx_rename_column_then_old_name]
alter table orders rename column nn to nn2;
alter table orders alter column nn set not null;

-- [tx_rename_index_then_drop]
alter index orders_qty_idx rename to oq;
drop index oq;

-- [tx_rename_constraint_then_validate]
-- before:
alter table orders add constraint k check (qty >= 0) not valid;
-- then:
alter table orders rename constraint k to k9;
alter table orders validate constraint k9;

-- [tx_drop_column_then_add]
alter table orders drop column note;
alter table orders add column note text;

-- [tx_drop_column_then_its_index] the index went with the column
alter table orders drop column vc_idx;
drop index orders_vc_idx_idx;

-- [tx_drop_column_then_its_check]
alter table orders drop column status;
alter table orders drop constraint st_chk;

-- [tx_add_column_then_set_nn] the new column is NULL in every row
alter table orders add column c int;
alter table orders alter column c set not null;

-- [tx_add_column_default_then_set_nn]
alter table orders add column c int default 5;
alter table orders alter column c set not null;

-- [tx_add_column_then_index]
alter table orders add column c int;
create index i on orders (c);

-- [tx_add_column_then_fk]
alter table orders add column c bigint default 1;
alter table orders add constraint f foreign key (c) references users(id);

-- [tx_add_column_then_check]
alter table orders add column c int;
alter table orders add constraint k check (c > 0);

-- [tx_add_column_then_type]
alter table orders add column c varchar(10);
alter table orders alter column c type varchar(20);

-- [tx_lock_timeout]
set lock_timeout = '2s';
alter table orders add column c int;

-- [tx_lock_timeout_local]
set local lock_timeout = 500;
alter table orders drop column note;

-- [tx_savepoint_rolled_back] the lock goes with the savepoint
savepoint a;
alter table users add column c int;
rollback to savepoint a;
create index i on orders (nn);

-- [tx_savepoint_released]
savepoint a;
alter table users add column c int;
release savepoint a;
create index i on orders (nn);

-- [tx_savepoint_undoes_rename]
savepoint a;
alter table users rename to people;
rollback to a;
alter table users add column c int;

-- [tx_rolled_back_in_text]
-- alone:
begin;
alter table users add column c int;
rollback;
alter table users add column c int;

-- [tx_text_ends_the_transaction] what stands behind COMMIT is in no transaction
-- alone:
begin;
alter table users add column c int;
commit;
create index concurrently i on users (name);

-- [tx_drop_then_use]
drop table nopk;
alter table nopk add column c int;

-- [tx_drop_then_create]
drop table nopk;
create table nopk (id int primary key);
create index i on nopk (id);

-- [tx_index_then_constraint]
create unique index uq2 on orders (big);
alter table orders add constraint uq2 unique using index uq2;

-- [tx_lock_then_work]
lock table orders in share mode;
create index i on orders (nn);

-- [tx_weak_lock_then_scan] nobody waits for it
lock table orders in row exclusive mode;
select count(*) from users;

-- [tx_enum_value_used]
alter type mood add value 'z';
alter table orders add column c mood default 'z';

-- [tx_enum_value_unused]
alter type mood add value 'z';
alter table orders add column c mood default 'a';

-- [tx_enum_created_used]
create type m9 as enum ('p', 'q');
alter table orders add column c m9 not null default 'q';

-- [tx_enum_value_used_later] committed in between
-- before:
alter type mood add value 'z';
-- then:
alter table orders add column c mood not null default 'z';

-- [tx_domain_of_same_tx]
create domain d9 as text check (value <> '');
alter table orders add column c d9;

-- [tx_function_of_same_tx]
create function f9() returns int language plpgsql volatile as 'begin return 1; end';
alter table orders add column c int default f9();

-- [tx_function_made_volatile]
create or replace function stabp() returns int language plpgsql volatile as 'begin return 1; end';
alter table orders add column c int default stabp();

-- [tx_partition_in_steps]
create table pt9 (like pt including all);
insert into pt9 select g, g, 'v' from generate_series(300001, 300100) g;
alter table pt attach partition pt9 for values from (300001) to (400001);

-- [tx_detach_then_drop]
alter table pt detach partition pt1;
drop table pt1;

-- [tx_swap_primary_key]
alter table parent drop constraint parent_pkey cascade;
alter table parent add primary key (id);

-- [tx_drop_foreign_key_then_retype]
alter table child drop constraint child_pid_fkey;
alter table child alter column pid type bigint;

-- [tx_truncate_then_fill] the new rows go into an emptied table
truncate unl;
insert into unl select g from generate_series(1, 10) g;
create index i on unl (x);

-- [tx_two_foreign_keys]
alter table orders add constraint f1 foreign key (user_id) references users(id) not valid;
alter table child add constraint f2 foreign key (id) references users(id) not valid;

-- [tx_timezone_set_in_text]
set timezone to 'America/New_York';
alter table orders alter column created_ni type timestamptz;
