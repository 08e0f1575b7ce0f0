-- Data

-- [update_all]
update orders set nn = nn where id <= 10;

-- [delete_some]
delete from orders where id <= 10;

-- [insert_one]
insert into unl values (1);

-- [select_for_update]
select * from orders where id = 1 for update;

-- [copy_from_select]
insert into unl select qty from orders where id <= 10;

-- [do_block_alter]
do $$ begin execute 'alter table orders add column c float8 default random()'; end $$;
