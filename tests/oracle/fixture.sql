-- The database in which every case of the oracle begins: the tables of the facts about locks,
-- small, and what else the combinations need. Every name tells what it is for.

create domain dom_plain as text;
create domain dom_chk as text check (value <> 'bad');
create domain dom_def as int default 7;
create domain dom_v20 as varchar(20);
create domain dom_nn_int as int;
create domain dom_over_chk as dom_chk;
create type mood as enum ('a', 'b', 'c');
create type mood2 as enum ('a', 'b', 'c');
create type addr as (street text, zip text);

create function volf() returns int language sql volatile as 'select 1';
create function volp() returns int language plpgsql volatile as 'begin return 1; end';
create function stabp() returns int language plpgsql stable as 'begin return 1; end';
create function stabf() returns int language sql stable as 'select 1';
create function immf() returns int language sql immutable as 'select 1';
create function trgf() returns trigger language plpgsql as 'begin return new; end';

create sequence sq;

create table users (
    id bigint primary key,
    email varchar(100) not null,
    name text
);
insert into users select g, 'u' || g || '@example.com', 'n' || g from generate_series(1, 2000) g;

-- 11 indexes.
create table orders (
    id int primary key,
    user_id bigint,
    qty int,
    qty_ni int,
    status varchar(20) constraint st_chk check (status <> 'none'),
    vc_idx varchar(20),
    vcu varchar,
    vcoll text,
    note text,
    tpat text,
    txtjs text,
    ch char(10),
    amount numeric(10,2),
    big bigint,
    si smallint,
    nn int,
    nnc int constraint nnc_chk check (nnc is not null),
    nnv int,
    uq int,
    flag boolean not null default false,
    created timestamp,
    created_ni timestamp,
    ctz timestamptz,
    tsp timestamp(3),
    tzt timetz(3),
    iv interval(3),
    net cidr,
    ip inet,
    vb varbit(10),
    md mood,
    dm dom_plain,
    dmc dom_chk,
    dni dom_nn_int,
    arr varchar(20)[],
    js json,
    rng int4range
);
insert into orders
select g, 1 + g % 2000, g, g, 's' || g % 7, 'i' || g, 'v' || g, 'c' || g, 'note ' || g, 't' || g,
    '{}', 'ch', g, 1 + g % 3000, g % 1000, g, g, g, g, false,
    timestamp '2024-01-01' + g * interval '1 minute', timestamp '2024-01-01',
    timestamptz '2024-01-01 00:00+00' + g * interval '1 minute', timestamp '2024-01-01',
    '12:00+00', interval '1 second', '10.0.0.0/8', '10.0.0.1', B'1010', 'a', 'plain', 'good', g,
    array['x'], '{}', int4range(g * 10, g * 10 + 5)
from generate_series(1, 3000) g;
create index orders_qty_idx on orders (qty);
create index orders_status_idx on orders (status);
create index orders_vc_idx_idx on orders (vc_idx);
create index orders_created_idx on orders (created);
create index orders_ctz_idx on orders (ctz);
create index orders_tpat_idx on orders (tpat text_pattern_ops);
create index orders_amount_idx on orders (amount);
create index orders_user_id_idx on orders (user_id);
create index orders_net_idx on orders (net);
create unique index orders_uq_ready on orders (uq);

-- No primary key, three unique indexes to make one of.
create table nopk (k int not null, nk int, nkc int check (nkc is not null), v text);
insert into nopk select g, g, g, 'v' || g from generate_series(1, 3000) g;
create unique index nopk_k_ready on nopk (k);
create unique index nopk_nk_ready on nopk (nk);
create unique index nopk_nkc_ready on nopk (nkc);

create table parent (id int primary key, code varchar(10) unique);
insert into parent select g, 'c' || g from generate_series(1, 2000) g;
create table child (id int primary key, pid int references parent (id), pcode varchar(10));
insert into child select g, g, 'c' || g from generate_series(1, 2000) g;

create table gen (id int primary key, a int, g int generated always as (a * 2) stored);
insert into gen (id, a) select g, g from generate_series(1, 2000) g;

create table unl (x int);
insert into unl select g from generate_series(1, 2000) g;

create table empty_table (id int primary key, n int, t varchar(20));

-- Partitions: two with rows, an index; two tables to attach, the second with the matching check.
create table pt (id int not null, k int, v varchar(20)) partition by range (id);
create table pt1 partition of pt for values from (1) to (100001);
create table pt2 partition of pt for values from (100001) to (200001);
create index pt_k_idx on pt (k);
insert into pt select g, g, 'v' from generate_series(1, 2000) g;
insert into pt select g, g, 'v' from generate_series(100001, 102000) g;
create table pn (id int not null, k int, v varchar(20));
insert into pn select g, g, 'v' from generate_series(200001, 202000) g;
create table pnc (
    id int not null, k int, v varchar(20),
    constraint pnc_chk check (id >= 200001 and id < 300001)
);
insert into pnc select g, g, 'v' from generate_series(200001, 202000) g;

-- With a default partition.
create table ptd (id int not null, k int, v varchar(20)) partition by range (id);
create table ptd1 partition of ptd for values from (1) to (100001);
create table ptd_def partition of ptd default;
insert into ptd select g, g, 'v' from generate_series(1, 2000) g;
insert into ptd select g, g, 'v' from generate_series(300001, 302000) g;
create table pnd (
    id int not null, k int, v varchar(20),
    constraint pnd_chk check (id is not null and id >= 100001 and id < 200001)
);
insert into pnd select g, g, 'v' from generate_series(100001, 102000) g;

-- Two levels of partitions, by list and by hash.
create table deep (area text not null, id int not null, n int, primary key (area, id))
    partition by list (area);
create table deep_eu partition of deep for values in ('eu') partition by hash (id);
create table deep_eu0 partition of deep_eu for values with (modulus 2, remainder 0);
create table deep_eu1 partition of deep_eu for values with (modulus 2, remainder 1);
create table deep_us partition of deep for values in ('us');
insert into deep select 'eu', g, g from generate_series(1, 2000) g;
insert into deep select 'us', g, g from generate_series(1, 2000) g;

create table inh (a int, b text);
create table inh_c (a int, b text);
insert into inh select g, 'b' from generate_series(1, 2000) g;
insert into inh_c select g, 'b' from generate_series(1, 2000) g;
create table base (id int, v varchar(20), constraint base_chk check (id > 0));
create table derived (extra int) inherits (base);
insert into base select g, 'v' from generate_series(1, 2000) g;
insert into derived select g, 'v', g from generate_series(1, 2000) g;

create view vw as select id, email from users;
create materialized view mv as select id, name from users;
create unique index mv_id on mv (id);

-- Names that need quotes, another schema, the same name in two schemas.
create schema sc;
create table "Order Items" ("Id" int primary key, "Sum ""net""" int, "order" int);
insert into "Order Items" select g, g, g from generate_series(1, 2000) g;
create index "Items ""by"" Sum" on "Order Items" ("Sum ""net""");
create table sc.users (id int primary key, boss int, tag text);
insert into sc.users select g, g, 't' from generate_series(1, 2000) g;
create index users_tag_idx on sc.users (tag);
create type sc.size as enum ('s', 'm');

-- Hanging on columns: views, policies, triggers, statistics, a rule.
create table watched (
    id int primary key,
    seen varchar(20),
    ruled varchar(20),
    policed varchar(20),
    triggered varchar(20),
    counted varchar(20),
    free varchar(20)
);
insert into watched select g, 's', 'r', 'p', 't', 'c', 'f' from generate_series(1, 2000) g;
create view watching as select id, seen from watched;
create materialized view watched_copy as select id, ruled from watched;
create policy watch on watched using (policed <> 'x');
create trigger watched_tg before update of triggered on watched
    for each row execute function trgf();
create statistics watched_st on counted, free from watched;

-- Keys of two columns, to itself, and owned sequences.
create table pairs (a int, b int, parent_a int, parent_b int, primary key (a, b));
insert into pairs select g, g, g, g from generate_series(1, 2000) g;
create table tree (id int primary key, up int references tree (id), label text);
insert into tree select g, g, 'l' from generate_series(1, 2000) g;
create table serials (id serial primary key, ident bigint generated by default as identity, n int);
insert into serials (n) select g from generate_series(1, 2000) g;
