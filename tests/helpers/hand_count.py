"""A count by hand of a hundred of PaLM's completions: fifty of each data set, chosen by the hash of their ids.

Each line is a row's id, the hash of its completion and its reason, in the words of the log of rationales. They were
read with the question and the right answer beside them and without the parser's result. In all that are right the
rationale ends before the first "The answer is" or "So the answer is".
"""

REASONS = """
svamp-dss/train/584 7e1baf6e0be8ba62 right
svamp-dss/test/186 e1c569d8b1684b4a right
svamp-dss/train/27 38f4665fb5025610 right
svamp-dss/test/31 15697464d1a1a655 right
svamp-dss/train/626 d3ad7623c863cc34 right
svamp-dss/train/566 9fc07623d0415ed7 right
svamp-dss/test/105 bcc1e0e7977e927d right
svamp-dss/train/565 9b02711a6444a82d right
svamp-dss/train/655 d7bff1de07ddacb2 wrong answer
svamp-dss/train/472 0b7dcb9ba29a90a5 right
svamp-dss/test/87 5ce992d0eb6cd3fa right
svamp-dss/train/728 32ed3cbc355f93d0 right
svamp-dss/test/7 225dc346227d89cb right
svamp-dss/train/796 a83d20c98a1b4207 no answer
svamp-dss/test/162 88e975e3b6c4b601 right
svamp-dss/train/292 a018e174d1062bfe right
svamp-dss/train/716 770806476f0b42f2 right
svamp-dss/test/94 345ea4a4f6fb1f4b right
svamp-dss/train/598 aa37552d37b8fcae right
svamp-dss/train/414 817ffa617839b1ab right
svamp-dss/train/54 0c220b34b4dd5fe1 unparsable
svamp-dss/train/739 4b6ca37c7ccc6c60 right
svamp-dss/train/646 80817191b516b6fa wrong answer
svamp-dss/train/33 023ee5c2240f2428 wrong answer
svamp-dss/test/175 821195fe06561a61 wrong answer
svamp-dss/train/706 dd990f603ae17f9b right
svamp-dss/train/408 6e114aad7f484738 right
svamp-dss/test/99 0e7fd0e0fd8b4d0c right
svamp-dss/train/617 3098c384012444bc right
svamp-dss/train/752 62d7016fa8e9154c wrong answer
svamp-dss/train/125 567869bd8b4161fb wrong answer
svamp-dss/train/34 10d9ea4090861b15 right
svamp-dss/test/77 42b1e3e1e6fb44ae unparsable
svamp-dss/train/331 48f76b6236b76468 right
svamp-dss/test/184 2cec0b4235c1371d right
svamp-dss/train/510 fc2e571977085873 right
svamp-dss/train/218 4b43c40c66e7529b right
svamp-dss/train/464 9411733e239ce544 right
svamp-dss/train/597 2b8ae98796bd191a right
svamp-dss/test/85 2a8dd8886af948e6 right
svamp-dss/train/41 c5b451b49ef47a20 wrong answer
svamp-dss/train/256 52e694561602074c right
svamp-dss/test/63 6bd33d4ef7c921bf right
svamp-dss/train/438 fe17d8206be7cdcf right
svamp-dss/train/387 4717ee2b5e9a8fd6 right
svamp-dss/train/687 43f39a4ddbe6ff52 unparsable
svamp-dss/train/363 d14563341e200f52 right
svamp-dss/train/689 b3f1f7ede52c1ae5 wrong answer
svamp-dss/test/153 b7c9fb5b25ac7c90 no answer
svamp-dss/train/121 873312f8641e42c7 right
commonsenseqa/5cf18c0a39921d4cf9063ddd3c8a60e1 e01d292fc3923426 right
commonsenseqa/eae086f7e41faeffd22f8bb5b9e40cbc 706cf8ee87092ce1 right
commonsenseqa/353bf00e1541b4ab68982c654bbd4072_1 ac58a28202cf8f44 right
commonsenseqa/482a02d9eeddea99ed7c18733240d2ac b6c730a2f5244bec right
commonsenseqa/5d1df1daa886efb78db2103ddc1398eb b688068c7683817b right
commonsenseqa/1739920b84b64a1237e2e63e4a1c9ef3 2bba552f8f58fa84 right
commonsenseqa/e3949997bf9d02048cfa5d8dd0f287aa 0e0b257c54b1f7bb right
commonsenseqa/ed9af5fd35da161a7082aed42899e2ad 472cfdb2940c5483 right
commonsenseqa/b0626c98f51573000f4360a44fc72dcb d0bd382d236a66fa right
commonsenseqa/cf6b9bbf14fc856013e06808921dd067 9aa1fb4241c3eb5c wrong answer
commonsenseqa/6b4b36b3103c978164c04dd6971aa793 bd2b9117c4f86b35 right
commonsenseqa/db810548a3436f72b3c08e4c9fed90ec cd44e2e1b829373e right
commonsenseqa/e6d99b4b76f74961a400ad0001b13b73 052feab2da210606 wrong answer
commonsenseqa/e36175aa4731e61013cb59e468b75282 f0aa075ed0cebe12 right
commonsenseqa/ff842b78bbf531d5addaf94c1734ccef 4ebbb5bad9e9225a right
commonsenseqa/f6f03a420f64c64092a8065657141eff 7dd04259b673c3cc right
commonsenseqa/cdf1d24c6271aa5452fa2eae4a36d661 62fee0978ccdb484 right
commonsenseqa/354865e117b6db685a0b9d8b38e73cc9 ce4c9c7f92d28230 right
commonsenseqa/12026d69b884be1835a9cdd55434b588 68863a783f4decd0 right
commonsenseqa/f4477f63fbd3bf5df54aecaa6ff41540 df2d8da3bb31dba1 right
commonsenseqa/bf10bfda7328c8671e15adf8546b64d7 26267847789cd1be right
commonsenseqa/82e26bc22af89c38d54aa2d00dcb8a2b 6872afc68b74231e right
commonsenseqa/2bcf748c60554a44ab318ad040109bcc dc9ad453263825b9 ambiguous
commonsenseqa/0ea8a47798476fb19c14a9a86fd66885 4bda934b912e3c44 right
commonsenseqa/167c0dc61979a026ebeb721f9513bda2 f7ff4d6dfd452b48 wrong answer
commonsenseqa/11f852336340fa1f3d2b8d4be43db2ed 9c1a698d297b9453 right
commonsenseqa/d923f289af795f322c3c6fe6b8885c0c 03bd2bf1d93e387e wrong answer
commonsenseqa/ba2751cd5867ed61f29a144258506770 4811cb03e584e5c1 right
commonsenseqa/d89ce34707e082aa9bb31e1cb1e47b53 30549f0f8752f85d right
commonsenseqa/079f7cc28a641d1608eaa72679064035 1d8cf57d2a46b3c8 right
commonsenseqa/9fc9abae9e3ddb6f1315f0b8e6ac5c53 34b59e5b8a3826de right
commonsenseqa/932b16a04fda78d31399af77513082c9 9f10132cb2983f4b right
commonsenseqa/32dcaf18e8d87a45b2cae03c44e5226a 8df99e0d4af5e5b0 right
commonsenseqa/d437d54e8706e8d4b78b79aad1291262 74ecc2aa69889dc8 wrong answer
commonsenseqa/e8d9c9f69199cb1e5a46636ab87ed237 a8da2473899aa9eb wrong answer
commonsenseqa/4f94ac123435f41bdfe2c0650087b4e1 b6819f4c976419db wrong answer
commonsenseqa/0a83d7c8d38cce3f6419fbddabc79de0 ae4c321e0bfb03bb wrong answer
commonsenseqa/a857a5c8aa4556d7829000161e6a4ea7 127a78a55291cbdb right
commonsenseqa/d1400e2c74d017dff365a1cce281e9ce f4842076c6aa22dc right
commonsenseqa/fb97a67afb15e42f6e8649ab6bbdc9d7 9630713714069b52 right
commonsenseqa/0aa23ad1ba9f28bc3e0185237a7ce1cc 5eb3775dc49f281f right
commonsenseqa/398998fc3bef5faf6214e33b45139abe 6ac258d911d3dc95 right
commonsenseqa/237cab0838fcee03d0c4e4733a7fd0c1 7d6401383d91926c right
commonsenseqa/2e83c5989a018bec6d5f5ac7d3b72f49 17c08ffd432c9b93 right
commonsenseqa/9cde50eb05b8f0248d490706f0f725ea 9cca648907f16ff4 wrong answer
commonsenseqa/a7af970f41fb371e73b86f087eb2ebdb 911be1cf403ead29 right
commonsenseqa/53d5390732d64262f2ec0aafedb551f6 96b990f11fccd323 right
commonsenseqa/0837103f706dd8af08c1cbc496877e83 182c627a35793db4 right
commonsenseqa/092aaeb3b19bbb551dc4ea0483ce5baf 3f672105221bf409 right
commonsenseqa/450918ea70f92bcff2cd7a24271025bd 8cba3c64c76ce1bd right
"""
