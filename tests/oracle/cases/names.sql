-- Names: quotes, schemas, IF EXISTS

-- [name_quoted_table]
alter table "Order Items" add column "New Column" int not null default 1;

-- [name_quoted_column]
alter table "Order Items" alter column "Sum ""net""" set not null;

-- [name_quoted_keyword]
alter table "Order Items" alter column "order" type bigint;

-- [name_quoted_index]
drop index "Items ""by"" Sum";

-- [name_quoted_index_built]
create index "Another One" on "Order Items" ("order");

-- [name_quoted_missing] without quotes it is another name
alter table Order_Items add column c int;

-- [name_folded] without quotes capitals mean nothing
ALTER TABLE Orders ADD COLUMN C INT;

-- [name_unicode]
alter table orders rename to "bestellte Größen";

-- [name_schema]
alter table sc.users add column c float8 default random();

-- [name_schema_public]
alter table public.users alter column name set not null;

-- [name_schema_of_type]
alter table sc.users add column c sc.size default 's';

-- [name_search_path] the first schema that has it
set search_path to sc, public;
alter table users alter column boss type bigint;

-- [name_search_path_falls_through] public has the table, sc has not
set search_path to sc, public;
alter table orders add column c int;

-- [name_search_path_local]
set local search_path = sc;
create index i on users (boss);

-- [name_search_path_index]
set search_path to sc;
drop index users_tag_idx;

-- [name_search_path_without]
set search_path to sc;
alter table orders add column c int;

-- [name_new_table_shadows]
create table sc.orders (id int);
set search_path to sc, public;
alter table orders add column c float8 default random();

-- [name_set_schema_then_use]
alter table unl set schema sc;
alter table sc.unl add column c float8 default random();

-- [name_rename_schema_then_use]
alter schema sc rename to sc9;
alter table sc9.users add column c float8 default random();

-- [name_drop_schema]
drop schema sc;

-- [name_drop_schema_cascade]
drop schema sc cascade;

-- [name_schema_missing]
create table nowhere.t (id int);

-- [ine_add_column_new]
alter table orders add column if not exists c int default 5;

-- [ine_add_column_there_volatile]
alter table orders add column if not exists qty float8 default random();

-- [ine_create_table_there]
create table if not exists orders (id int primary key, u bigint references users(id));

-- [ine_create_table_new]
create table if not exists nt (id int primary key, u bigint references users(id));

-- [ine_create_index_new]
create index if not exists i on orders (nn);

-- [ine_create_index_other_table] an index of that name is on another table
create index if not exists orders_qty_idx on users (name);

-- [ine_create_sequence]
create sequence if not exists sq;

-- [ine_create_schema]
create schema if not exists sc;

-- [ine_create_matview_there]
create materialized view if not exists mv as select * from orders;

-- [ie_drop_table_missing]
drop table if exists nosuch;

-- [ie_drop_table_there]
drop table if exists nopk;

-- [ie_drop_index_missing]
drop index if exists nosuch;

-- [ie_drop_constraint_missing]
alter table orders drop constraint if exists nosuch;

-- [ie_alter_table_missing]
alter table if exists nosuch add column c int;

-- [ie_alter_table_there]
alter table if exists unl add column c float8 default random();

-- [ie_drop_column_there]
alter table orders drop column if exists note;

-- [ie_drop_index_concurrently_missing]
-- alone:
drop index concurrently if exists nosuch;

-- [ie_drop_view_there]
drop view if exists vw;

-- [missing_table]
alter table nosuch add column c int;

-- [missing_column]
alter table orders drop column nosuch;

-- [missing_constraint]
alter table orders drop constraint nosuch;

-- [missing_constraint_validated]
alter table orders validate constraint nosuch;

-- [missing_index]
drop index nosuch;

-- [missing_type]
alter table orders add column c nosuch;

-- [missing_function]
alter table orders add column c int default nosuch();

-- [missing_column_of_index]
create index i on orders (nosuch);

-- [missing_referenced]
alter table orders add constraint f foreign key (user_id) references nosuch (id);

-- [there_column]
alter table orders add column qty int;

-- [there_table]
create table orders (id int);

-- [there_index]
create index orders_qty_idx on orders (nn);

-- [there_constraint]
alter table orders add constraint st_chk check (qty > 0);

-- [there_new_name]
alter table orders rename to users;

-- [there_new_column]
alter table orders rename column note to qty;

-- [kind_drop_table_of_view]
drop table vw;

-- [kind_drop_view_of_table]
drop view orders;

-- [kind_drop_table_of_matview]
drop table mv;

-- [kind_alter_table_of_view] a view takes some of what a table does
alter table vw rename to vw2;

-- [kind_alter_view_rename]
alter view vw rename column email to mail;

-- [kind_alter_index_of_table]
alter index orders rename to purchases;

-- [kind_index_on_view]
create index i on vw (id);

-- [comment_inside] of the text
alter table /* not
   users */ orders -- the big one
    add column c /* a /* nested */ comment */ int default 5;

-- [comment_before]
/* create index concurrently */ create index -- concurrently
    i on orders (nn);

